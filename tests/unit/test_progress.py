"""The meter never says done before the end, and its ETA follows what was measured."""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from services.orchestrator.method.report import _union
from services.orchestrator.runtime.progress import ProgressMeter
from shared.contracts.jobs import Measured
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import STEP_KINDS, cost
from shared.contracts.steps import StepKind
from shared.plan.plan import PlannedRows
from shared.plan.rates import PROBE_S, Rate, probe_rate

TRAIN = StepKey("distill", role="train")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(meter: ProgressMeter, clock: Clock, key: StepKey, kind: StepKind, rows: float, seconds: float) -> None:
    meter.running(key, kind, rows, 0)
    clock.now += seconds
    meter.ended(key, kind, rows)


def test_work_that_falls_away_brings_the_end_nearer():
    clock = Clock()
    meter = ProgressMeter({("evaluate", StepKind.COMPARE): 100}, clock)
    timed(meter, clock, StepKey("evaluate", role="first"), StepKind.COMPARE, 40, seconds=10)
    meter.more(StepKind.COMPARE, -20)
    assert meter.progress().percent == 50.0


def test_no_eta_before_anything_was_measured():
    clock = Clock()
    meter = ProgressMeter({("distill", StepKind.TEACH): 50}, clock)
    timed(meter, clock, StepKey("distill", role="cached"), StepKind.TEACH, 10, seconds=0.001)  # its result was cached
    progress = meter.progress()
    assert progress.eta_seconds is None
    assert progress.percent > 0


def test_trying_the_base_counts_from_the_first_statement_on_and_passes():
    clock, probe = Clock(), StepKey.parse("prepare/probe")
    rates = {StepKind.TEACH: Rate(1.0, 2.0), StepKind.PROBE: probe_rate()}
    meter = ProgressMeter({("distill", StepKind.TEACH): 100}, clock, rates)
    told = []
    for _ in range(30):  # longer than it was expected to take
        meter.running(probe, StepKind.PROBE, 1, 0)
        told.append(meter.progress().eta_seconds or 0.0)
        clock.now += 1
    meter.ended(probe, StepKind.PROBE, 1)
    told.append(meter.progress().eta_seconds or 0.0)
    assert told[0] == pytest.approx(100 + PROBE_S, abs=2)
    assert told == sorted(told, reverse=True)
    assert told[-1] == pytest.approx(100, abs=2)
    assert meter.progress().measured[StepKind.PROBE].seconds == pytest.approx(30)


def test_the_rate_of_the_probe_is_learned_from_other_bases():
    assert probe_rate(Measured(rows=2, seconds=24)).seconds == 12
    assert probe_rate(Measured(rows=0, seconds=0)).seconds == PROBE_S


def test_running_steps_count_in_part_and_never_twice():
    clock = Clock()
    meter = ProgressMeter({("distill", StepKind.SFT): 100}, clock)
    meter.running(TRAIN, StepKind.SFT, 50, 0.5)
    assert meter.progress().percent == 25.0
    clock.now += 10
    meter.ended(TRAIN, StepKind.SFT, 50)
    assert meter.progress().percent == 50.0
    assert meter.progress().eta_seconds is not None


def test_a_plan_that_was_too_small_does_not_claim_the_end():
    clock = Clock()
    meter = ProgressMeter({("evolve", StepKind.SEARCH): 1}, clock)
    timed(meter, clock, StepKey("evolve", 1, "search"), StepKind.SEARCH, 1000, seconds=5)
    assert meter.progress().percent < 100


def test_overlapping_spans_are_counted_once():
    assert _union([(0, 10), (5, 12), (20, 21)]) == 13


def test_what_an_earlier_process_did_of_a_running_step_tells_no_speed():
    """An orchestrator that was started again once said 37 s where 40 minutes were left."""
    clock = Clock()
    meter = ProgressMeter({("distill", StepKind.SFT): 100}, clock)
    meter.running(TRAIN, StepKind.SFT, 100, 0)
    meter.running(TRAIN, StepKind.SFT, 100, 0.5)
    assert meter.progress().eta_seconds is None, "nothing was measured yet"
    clock.now += 60
    meter.running(TRAIN, StepKind.SFT, 100, 0.6)
    assert meter.progress().eta_seconds == pytest.approx(4 * 60, rel=0.01)
    assert meter.progress().percent == 60.0


def test_loading_a_model_for_a_resumed_step_tells_no_speed():
    clock = Clock()
    meter = ProgressMeter({("distill", StepKind.SFT): 100}, clock)
    meter.running(TRAIN, StepKind.SFT, 100, 0.4)  # two fifths of it was done before the orchestrator restarted
    clock.now += 60
    meter.running(TRAIN, StepKind.SFT, 100, 0.41)  # the first row after the model was loaded
    clock.now += 10
    meter.running(TRAIN, StepKind.SFT, 100, 0.51)  # a row per second
    assert meter.progress().eta_seconds == pytest.approx(49, abs=1)


def test_a_stage_that_is_over_takes_the_rest_of_its_plan_with_it():
    clock = Clock()
    meter = ProgressMeter({("iterate", StepKind.REASON): 100, ("evolve", StepKind.REASON): 20}, clock)
    timed(meter, clock, StepKey("iterate", 1, "answers", 0), StepKind.REASON, 10, seconds=10)
    assert meter.progress().eta_seconds == pytest.approx(110)
    meter.enter("evolve")
    assert meter.progress().eta_seconds == pytest.approx(20)


PLAN: PlannedRows = {
    ("pilot", StepKind.TEACH): 32,
    ("pilot", StepKind.GUIDE): 16,
    ("distill", StepKind.GUIDE): 200,
    ("distill", StepKind.TEACH): 200,
    ("distill", StepKind.SFT): 600,
    ("evaluate", StepKind.ANSWER): 900,
    ("evaluate", StepKind.GRADE): 900,
    ("evaluate", StepKind.COMPARE): 40,
    ("evaluate", StepKind.RATE): 80,
}
TO_COME = {kind for _, kind in PLAN}


def batches(stage: str, kind: StepKind, rows: int, first: int = 0) -> list[tuple[StepKey, StepKind, int]]:
    places = enumerate(range(0, rows, 8), first)
    return [(StepKey(stage, role=kind.name.lower(), batch=number), kind, min(8, rows - at)) for number, at in places]


def simulated(seconds: dict[StepKind, float]) -> Iterator[tuple[float, float | None, int]]:
    """A job whose workers keep an even pace: (time, ETA, number of kinds whose speed is known) every 2 s."""
    clock = Clock()
    meter = ProgressMeter(PLAN, clock)
    stages = {
        "pilot": batches("pilot", StepKind.GUIDE, 16)
        + batches("pilot", StepKind.TEACH, 32)
        + batches("evaluate", StepKind.ANSWER, 300)  # the base on dev
        + batches("evaluate", StepKind.GRADE, 300),
        "distill": batches("distill", StepKind.GUIDE, 200)
        + batches("distill", StepKind.TEACH, 200)
        + [(TRAIN, StepKind.SFT, 600)],
        "evaluate": batches("evaluate", StepKind.ANSWER, 600, first=100)
        + batches("evaluate", StepKind.GRADE, 600, first=100)
        + batches("evaluate", StepKind.COMPARE, 40)
        + batches("evaluate", StepKind.RATE, 80),
    }
    ran: set[StepKind] = set()
    shown = 0.0
    for stage, steps in stages.items():
        meter.enter(stage)
        for key, kind, rows in steps:
            meter.running(key, kind, rows, 0)
            took = rows * seconds[kind]
            ends, reports = clock.now + took, 0
            while clock.now < ends:
                clock.now = min(clock.now + 0.5, ends)
                if kind is StepKind.SFT:  # a training reports its progress
                    meter.running(key, kind, rows, 1 - (ends - clock.now) / took)
                    reports += 1
                if clock.now - shown >= 2:
                    shown = clock.now
                    yield clock.now, meter.progress().eta_seconds, len(ran | ({kind} if reports > 1 else set()))
            meter.ended(key, kind, rows)
            ran.add(kind)
    yield clock.now, 0.0, len(ran)


@pytest.mark.parametrize("seed", range(20))
def test_at_an_even_pace_the_eta_does_not_grow_and_comes_true(seed: int):
    """Each kind is up to four times faster or slower than its cost says; once all have run, the ETA is right."""
    dice = random.Random(seed)
    seconds = {kind: known.cost * 4 ** dice.uniform(-1, 1) for kind, known in STEP_KINDS.items()}
    shown = [(now, eta, kinds) for now, eta, kinds in simulated(seconds) if eta is not None]
    assert len(shown) > 50
    for (_, before, kinds), (now, eta, later) in pairwise(shown):
        assert eta <= before or kinds != later, f"the ETA grew at {now:.0f} s"
    end = shown[-1][0]
    for now, eta, kinds in shown:
        if kinds == len(TO_COME):
            assert now + eta == pytest.approx(end, rel=0.1)


def test_the_cost_of_a_kind_that_has_not_run_is_scaled_by_the_others():
    clock = Clock()
    meter = ProgressMeter({("distill", StepKind.TEACH): 10, ("evaluate", StepKind.COMPARE): 10}, clock)
    timed(
        meter,
        clock,
        StepKey("distill", role="answers", batch=0),
        StepKind.TEACH,
        10,
        seconds=3 * cost(StepKind.TEACH, 10),
    )
    assert meter.progress().eta_seconds == pytest.approx(3 * cost(StepKind.COMPARE, 10))
