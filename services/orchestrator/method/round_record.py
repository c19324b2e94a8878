"""What a round of phase 2 says of itself: its part of the report, and events."""

from collections.abc import Sequence

from services.orchestrator.method.cut_off import UNANSWERED
from services.orchestrator.method.durable import Emit
from services.orchestrator.method.samples import Drawn, figures_of, tell_samples
from shared.contracts.answer_format import MARKER
from shared.contracts.data import Question
from shared.contracts.distillation import IterateSettings
from shared.contracts.phase_records import RoundRecord
from shared.contracts.rows import Example, StudentCompletion, Verdict

Try = tuple[int, StudentCompletion, Verdict]  # its number comes first


def record_of(
    settings: IterateSettings,
    fresh: Sequence[Question],
    drawn: Sequence[Drawn],
    tries: Sequence[Try],
    examples: Sequence[Example],
    undecidable: int,
) -> RoundRecord:
    """Without the teacher's corrections. drawn: of the fresh questions first, which alone count. examples: what passed."""
    loop = settings.strategy != "sample"
    numbers = range(1, settings.tries + 1 if loop else 1)
    sampled = drawn[: len(fresh)]
    from_samples = {one.question.id for one in sampled if any(one.passed)}
    tried = len(fresh) - len(from_samples) - undecidable
    passed = [n for n, _, verdict in tries if verdict.passed]
    record = RoundRecord(
        questions=len(fresh),
        undecidable=undecidable,
        passed=len(from_samples) + len(passed),
        corrected=0,
        dropped_corrections={},
        asked_by_try=[sum(n == t for n, _, _ in tries) for t in numbers],
        pass_rate=[sum(n <= t for n in passed) / max(tried, 1) for t in numbers],
        unparsed_verdicts=sum(verdict.by == "unparsed" for _, _, verdict in tries),
        leaked_hints=sum(verdict.leaked for _, _, verdict in tries),
        too_long=sum(verdict.by == UNANSWERED for _, _, verdict in tries),
        cut_off=sum(completion.cut_off for _, completion, _ in tries),
        missing_markers=sum(completion.marker_missing for _, completion, _ in tries),
        with_rationale=sum(MARKER in example.completion for example in examples),
    )
    if not drawn:
        return record
    return record.model_copy(update={"sampled": figures_of(sampled, kept=len(examples) - len(passed))})


async def tell_round(emit: Emit, settings: IterateSettings, number: int, record: RoundRecord) -> None:
    """Events: what was drawn, the pass rate by try, and a warning of questions that nothing can decide."""
    if record.sampled is not None:
        await tell_samples(emit, f"iterate: round {number}", record.sampled, round=number)
    if record.undecidable:
        instead = "answered by the teacher" if settings.on_failure == "teacher" else "dropped"
        counts = f"{record.undecidable} of {record.questions} questions are not tried but {instead}"
        reason = "the judge is no better than chance on the labels, and no grader can say what passes"
        await emit(f"iterate: round {number}: {counts}: {reason}", level="warn")
    if record.pass_rate:
        rates = f"pass rate by try {', '.join(f'{rate:.0%}' for rate in record.pass_rate)}"
        await emit(f"iterate: round {number}: {rates}", type="metrics", round=number, pass_rate=record.pass_rate)
