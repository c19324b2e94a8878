"""Decisions on dev: what becomes of a phase's student, which turn is kept, and whether the job's student is promoted."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.method.context import JobContext, State
from services.orchestrator.method.evaluate import BASE, EvalResult, measure, measure_to_choose
from services.orchestrator.method.head_to_head import gain_of, side_by_side
from shared.contracts.data import Split
from shared.contracts.distillation import Phase
from shared.contracts.report import Decision, DevGain, EvolveIteration, ForgettingRecord, Promotion, WinRecord
from shared.contracts.steps import ModelRef, StepKind
from shared.evaluation.looks import look_level
from shared.evaluation.parts import undivided
from shared.evaluation.statistics import Interval

SERVED = "served"


@dataclass(frozen=True)
class PhaseOutcome:
    """A phase's student, and what dev says of it against the one it came from. against: that one's name."""

    phase: Phase
    model: ModelRef
    gain: Interval
    against: str
    record: WinRecord


async def announce_parts(ctx: JobContext) -> None:
    """An event where rounds or turns are chosen on dev."""
    if ctx.choice:
        await ctx.emit(
            f"rounds and turns are chosen on {len(ctx.choice)} questions of dev, decisions rest on the other {len(ctx.places)}"
        )
    elif ctx.spec.chooses:
        await ctx.emit(undivided(len(ctx.places)), level="warn")


async def judge_phase(
    ctx: JobContext, state: State, phase: Phase, before: EvalResult, model: ModelRef
) -> tuple[PhaseOutcome, EvalResult]:
    """Compare a phase's student with the one it came from, on dev."""
    after = await measure(ctx, state, phase.value, Split.DEV, model)
    old, new = await side_by_side(ctx, state, before, after)
    metric, gain = ctx.metric, new.gain_over(old, ctx.metric)
    record = new.record_against(old, metric)
    if ctx.judge_measures:
        told = f"against {before.name} the judge prefers {record.win} answers, {record.tie} tie, {record.loss} lose"
    else:
        told = f"{metric} on dev {old.value(metric).value:.3f} -> {new.value(metric).value:.3f}"
    await ctx.emit(
        f"{phase.value}: {told}, gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]: {gain.decision}",
        type="metrics",
        phase=phase.value,
        decision=gain.decision,
    )
    return PhaseOutcome(phase, model, gain, before.name, record), after


async def kept_turn(
    ctx: JobContext, state: State, students: Sequence[ModelRef], turns: Sequence[EvolveIteration]
) -> tuple[ModelRef, list[EvolveIteration]]:
    """The best of phase 3's students on the part of dev that is there to choose, and the turns, each but the first with the gain of its
    student over the best before it. The last student where dev is not parted: nothing is chosen then."""
    if len(students) < 2 or not ctx.choice:
        return students[-1], [*turns]
    best, told = await measure_to_choose(ctx, state, "evolve-1", students[0]), [*turns]
    for number, student in enumerate(students[1:], start=2):
        after = await measure_to_choose(ctx, state, f"evolve-{number}", student)
        gain = await gain_of(ctx, state, best, after)
        dev = DevGain(gain=gain.rounded(), kept=gain.value > 0)
        told[number - 1] = told[number - 1].model_copy(update={"dev": dev})
        best = after if dev.kept else best
    await ctx.emit(f"evolve: the student of {best.name} is kept, by {len(ctx.choice)} questions of dev")
    return best.model, told


async def compare_with_served(
    ctx: JobContext,
    state: State,
    served: ModelRef | None,
    base_on_dev: EvalResult,
    on_dev: EvalResult,
    forgotten: ForgettingRecord | None,
    look: int,
) -> Promotion:
    """What becomes of the job's student on dev, against the version that is served, or the base at first.

    look: how often the dataset's dev split has decided about the alias, this time included; the interval that decides is wider each
    time. A student that forgot more than the job allows is undecided at best.
    """
    level = look_level(look)
    if state.student == ctx.base:
        return Promotion(
            state="rejected", against=BASE, model=None, gain=None, forgetting=forgotten, look=look, level=level
        )
    against, incumbent = BASE, base_on_dev
    if served is not None and served != state.student:
        ctx.expect(StepKind.ANSWER, len(ctx.measured[Split.DEV]))
        against, incumbent = SERVED, await measure(ctx, state, SERVED, Split.DEV, served)
    old, new = await side_by_side(ctx, state, incumbent, on_dev, planned=False)
    return Promotion(
        state=decision_of(old, new, ctx.metric, level, forgotten is not None and forgotten.guarded),
        against=against,
        model=None,
        gain=new.gain_over(old, ctx.metric).rounded(),
        forgetting=forgotten,
        look=look,
        level=round(level, 6),
        n=len(new.answers),
        record=new.record_against(old, ctx.metric),
    )


def decision_of(before: EvalResult, after: EvalResult, metric: str, level: float, guarded: bool = False) -> Decision:
    """promoted: the whole interval of the gain at this level lies above zero, and no more was forgotten than the job allows."""
    decision = after.gain_over(before, metric, level).decision
    return "undecided" if decision == "promoted" and guarded else decision
