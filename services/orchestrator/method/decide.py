"""`Decisions`, all of them on dev: whether a phase's student is built upon, and whether the job's student is promoted."""

from dataclasses import dataclass
from typing import NamedTuple

from services.orchestrator.method.durable import Emit, Expect
from services.orchestrator.method.evaluate import BASE, EvalResult, Measuring
from services.orchestrator.method.head_to_head import HeadToHead
from services.orchestrator.method.state import State
from shared.contracts.data import Split
from shared.contracts.distillation import Phase
from shared.contracts.report import ForgettingRecord, Promotion, WinRecord
from shared.contracts.report_part import Decision
from shared.contracts.steps import ModelRef, StepKind
from shared.evaluation.looks import look_level
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


class Incumbent(NamedTuple):
    """The version that the job's alias served when the comparison with it was planned. name: alias@version."""

    name: str
    model: ModelRef


@dataclass(frozen=True)
class Decisions:
    measuring: Measuring
    head_to_head: HeadToHead
    emit: Emit
    expect: Expect

    async def on_phase(
        self, state: State, phase: Phase, before: EvalResult, model: ModelRef
    ) -> tuple[PhaseOutcome, EvalResult]:
        """Compare a phase's student with the one it came from; returns that, and the student measured."""
        after = await self.measuring.measure(state, phase.value, Split.DEV, model)
        old, new = await self.head_to_head.side_by_side(state, before, after)
        gain = new.gain_over(old)
        record = new.record_against(old)
        if self.head_to_head.judge_measures:
            told = f"against {before.name} the judge prefers {record.win} answers, {record.tie} tie, {record.loss} lose"
        else:
            told = f"{new.metric} on dev {old.value().value:.3f} -> {new.value().value:.3f}"
        await self.emit(
            f"{phase.value}: {told}, gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]: {gain.decision}",
            type="metrics",
            phase=phase.value,
            decision=gain.decision,
        )
        return PhaseOutcome(phase, model, gain, before.name, record), after

    async def on_promotion(
        self,
        state: State,
        served: Incumbent | None,
        base_on_dev: EvalResult,
        on_dev: EvalResult,
        forgotten: ForgettingRecord | None,
        look: int,
    ) -> Promotion:
        """What becomes of the job's student, against the version that is served, or the base at first.

        served: the same one in every replay.

        look: how often the dataset's dev split has decided about the alias, this time included; the interval that decides is wider each
        time. A student that forgot more than the job allows is undecided at best.
        """
        level = look_level(look)
        if state.student == self.measuring.base:
            return Promotion(
                state="rejected", against=BASE, model=None, gain=None, forgetting=forgotten, look=look, level=level
            )
        against, incumbent = BASE, base_on_dev
        if served is not None and served.model == state.student:  # its own training made the same model before
            served = None
        if served is not None:
            self.expect(StepKind.ANSWER, len(self.measuring.measured[Split.DEV]))
            against, incumbent = SERVED, await self.measuring.measure(state, SERVED, Split.DEV, served.model)
        old, new = await self.head_to_head.side_by_side(state, incumbent, on_dev, planned=False)
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
            compared_with=served.name if served else None,
        )


def decision_of(before: EvalResult, after: EvalResult, level: float, guarded: bool = False) -> Decision:
    """promoted: the whole interval of the gain at this level lies above zero, and no more was forgotten than the job allows."""
    decision = after.gain_over(before, level=level).decision
    return "undecided" if decision == "promoted" and guarded else decision
