"""Decisions on dev: what becomes of a phase's student, which turn is kept, and whether the job's student is promoted."""

from dataclasses import dataclass

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.evaluate import BASE, EvalResult
from services.orchestrator.method.state import State
from shared.contracts.data import Split
from shared.contracts.distillation import Phase
from shared.contracts.report import ForgettingRecord, Promotion, WinRecord
from shared.contracts.report_part import Decision
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


async def announce_measuring(ctx: JobContext) -> None:
    """Events where questions without a reference change how students are measured, and where rounds or turns are chosen on dev."""
    bare = {split: sum(not q.reference for q in ctx.splits[split]) for split in (Split.DEV, Split.TEST)}
    if ctx.judge_measures:
        message = (
            "dev or test has hardly any references, so the judge decides: it compares the answers of each student with those of the one it "
            "was trained from, in both orders. Give references, or at least labels for the judge"
        )
    else:
        counts = [
            f"{missing} of {len(ctx.splits[split])} questions of {split.value}"
            for split, missing in bare.items()
            if missing
        ]
        message = f"{' and '.join(counts)} have no reference; students are not measured on them"
    if any(bare.values()):
        await ctx.emit(message, level="warn")
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
    after = await ctx.measuring.measure(state, phase.value, Split.DEV, model)
    old, new = await ctx.head_to_head.side_by_side(state, before, after)
    gain = new.gain_over(old)
    record = new.record_against(old)
    if ctx.judge_measures:
        told = f"against {before.name} the judge prefers {record.win} answers, {record.tie} tie, {record.loss} lose"
    else:
        told = f"{new.metric} on dev {old.value().value:.3f} -> {new.value().value:.3f}"
    await ctx.emit(
        f"{phase.value}: {told}, gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]: {gain.decision}",
        type="metrics",
        phase=phase.value,
        decision=gain.decision,
    )
    return PhaseOutcome(phase, model, gain, before.name, record), after


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
        against, incumbent = SERVED, await ctx.measuring.measure(state, SERVED, Split.DEV, served)
    old, new = await ctx.head_to_head.side_by_side(state, incumbent, on_dev, planned=False)
    return Promotion(
        state=decision_of(old, new, level, forgotten is not None and forgotten.guarded),
        against=against,
        model=None,
        gain=new.gain_over(old).rounded(),
        forgetting=forgotten,
        look=look,
        level=round(level, 6),
        n=len(new.answers),
        record=new.record_against(old),
    )


def decision_of(before: EvalResult, after: EvalResult, level: float, guarded: bool = False) -> Decision:
    """promoted: the whole interval of the gain at this level lies above zero, and no more was forgotten than the job allows."""
    decision = after.gain_over(before, level=level).decision
    return "undecided" if decision == "promoted" and guarded else decision
