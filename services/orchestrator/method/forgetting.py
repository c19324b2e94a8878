"""`Forgetting`: the loss outside of the domain. The base and the final model answer general questions that come with METEOR."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.method.durable import Emit
from services.orchestrator.method.evaluate import Measuring
from services.orchestrator.method.state import State
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation
from shared.contracts.grader_kinds import Grader
from shared.contracts.report import ForgettingRecord

GENERAL_TOKENS = 48  # the answers are a word or a number; a small model writes a sentence first


@dataclass(frozen=True)
class Forgetting:
    """questions: the general ones; none where the job asks for none."""

    spec: Distillation
    questions: Sequence[Question]
    measuring: Measuring
    emit: Emit

    async def check(self, state: State) -> ForgettingRecord | None:
        """The share of general questions answered right before and after; None where the job asks for none.

        An answer is right when the expected one stands in it. guarded: the whole interval of the change lies below the job's
        margin, so the student is not promoted.
        """
        base = self.measuring.base
        if not self.questions or state.student == base:
            return None
        tokens = self._tokens(state)
        folder = "general" if tokens == GENERAL_TOKENS else f"general/{tokens}"
        before, after = [
            await self.measuring.answer_and_grade(
                state, f"{folder}/{name}", self.questions, model, [Grader.CONTAINS], tokens
            )
            for name, model in (("base", base), ("final", state.student))
        ]
        change = after.gain_over(before)
        margin = self.spec.evaluation.forgetting_margin
        guarded = margin is not None and change.high < -margin
        record = ForgettingRecord(
            n=len(self.questions),
            base=before.value().rounded(),
            final=after.value().rounded(),
            change=change.rounded(),
            missing_markers=after.missing_markers,
            guarded=guarded,
        )
        await self.emit(
            f"general questions answered right: {before.value().value:.0%} by the base, "
            f"{after.value().value:.0%} by the new model, change {change.value:+.3f} [{change.low:+.3f}, "
            f"{change.high:+.3f}]"
            + ("; more was forgotten than the job allows, so it is not promoted" if guarded else ""),
            level="warn" if change.high < 0 else "info",
            type="metrics",
            **record.model_dump(mode="json"),
        )
        return record

    def _tokens(self, state: State) -> int:
        """The longest answer to a general question, for both models: a student that reasons first needs the job's room for its reasoning,
        or its answer is cut off and counts as forgotten."""
        taught = GENERAL_TOKENS + self.spec.student_tokens - self.spec.answer_tokens
        return max(taught, self.spec.student_tokens if state.student.tuned in state.writes_rationale else 0)
