"""The meter never says done before the end, and its ETA follows what was measured."""

import pytest

from services.orchestrator.method.report import _union
from services.orchestrator.runtime.progress import COST, ProgressMeter, planned_work
from shared.contracts.distillation import Distillation, Guidance
from shared.contracts.steps import StepKind
from shared.plan.measurements import students_measured

SIZES = {"train": 100, "dev": 20, "test": 30}


def test_more_epochs_are_more_work():
    short = planned_work(Distillation.model_validate({"domain": "d", "distill": {"epochs": 1}}), SIZES)
    long = planned_work(Distillation.model_validate({"domain": "d", "distill": {"epochs": 5}}), SIZES)
    assert long > short


def test_without_guidance_there_is_less_work():
    guided = planned_work(Distillation(domain="d", guidance=Guidance.WEAK), SIZES)
    assert planned_work(Distillation(domain="d", guidance=Guidance.NONE), SIZES) < guided


def test_a_judge_that_measures_is_work_for_every_student_on_dev_and_test():
    spec = Distillation.model_validate({"domain": "d", "iterate": {"rounds": 2}, "evolve": {"turns": 3}})
    by_references, by_judge = (planned_work(spec, SIZES, references=False, judge_measures=it) for it in (False, True))
    dev, test = 3 + 2 + 1, 3 + 2 + 3  # phases, rounds, the student before them; phases, rounds, turns
    assert students_measured(spec, references=False) == (dev, test)
    assert by_judge - by_references == pytest.approx(COST[StepKind.COMPARE] * (dev * 20 + test * 30))


def test_baselines_are_work_where_references_make_them():
    spec = Distillation.model_validate({"domain": "d", "evaluation": {"shot_seeds": 5}})
    assert students_measured(spec, references=True) == (3, 3 + 3 + 4)
    assert planned_work(spec, SIZES, references=True) > planned_work(spec, SIZES, references=False)


def test_work_that_falls_away_brings_the_end_nearer():
    meter = ProgressMeter(100 * COST[StepKind.COMPARE])
    meter.ended("first", StepKind.COMPARE, 40, seconds=10)
    meter.more(StepKind.COMPARE, -20)
    assert meter.progress().percent == 50.0


def test_no_eta_before_anything_was_measured():
    meter = ProgressMeter(100)
    meter.ended("kept", StepKind.TEACH, 10, seconds=0.001)  # taken over from before: no measurement
    progress = meter.progress()
    assert progress.eta_seconds is None
    assert progress.percent > 0


def test_running_steps_count_in_part_and_never_twice():
    meter = ProgressMeter(100 * COST[StepKind.SFT])
    meter.running("train", StepKind.SFT, 50, 0.5)
    assert meter.progress().percent == 25.0
    meter.ended("train", StepKind.SFT, 50, seconds=10)
    assert meter.progress().percent == 50.0
    assert meter.progress().eta_seconds is not None


def test_a_plan_that_was_too_small_does_not_claim_the_end():
    meter = ProgressMeter(1)
    meter.ended("a", StepKind.SEARCH, 1000, seconds=5)
    assert meter.progress().percent < 100


def test_overlapping_spans_are_counted_once():
    assert _union([(0, 10), (5, 12), (20, 21)]) == 13


def test_what_an_earlier_process_did_of_a_running_step_tells_no_speed():
    """An orchestrator that was started again once said 37 s where 40 minutes were left."""
    meter = ProgressMeter(100 * COST[StepKind.SFT])
    meter._started -= 60
    meter.running("train", StepKind.SFT, 100, 0.5)
    assert meter.progress().eta_seconds is None, "nothing was measured yet"
    meter.running("train", StepKind.SFT, 100, 0.6)
    assert meter.progress().eta_seconds == pytest.approx(4 * 60, rel=0.01)
    assert meter.progress().percent == 60.0
