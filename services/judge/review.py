"""Phase 2, the judge's part (paper section 3.2): a verdict on each completion, and a critique of those that fail."""

from collections import Counter
from collections.abc import Sequence

from services.judge.structured_reply import JudgeClient
from shared.contracts.grader_kinds import UNGRADABLE
from shared.contracts.rows import JudgeInput, Verdict
from shared.contracts.steps import JudgeParams
from shared.grading.attempt import attempt_of, counts_of
from shared.grading.graders import Graders
from shared.judging.prompts import critique_messages, has_text, review_messages
from shared.judging.replies import Critique, Decision, Review, leaks
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress, run_rows


async def review(
    gateway: GatewayClient,
    params: JudgeParams,
    rows: list[JudgeInput],
    progress: OnProgress,
    graders: Graders,
    material: Sequence[str] = (),
) -> tuple[list[Verdict], dict[str, int]]:
    """A verdict per row, in the rows' order, and counts. Rows that the job's grader cannot grade are the judge's. material: texts
    that the judge is shown with every row.

    Raises UserError for an unknown grader and what GatewayClient.chat raises.
    """
    judge = JudgeClient(gateway, params, material)
    name = judge.params.grader
    places = [place for place, row in enumerate(rows) if name and (has_text(row.reference) or row.item)]
    graded = await graders.score_all(name, [attempt_of(rows[place]) for place in places]) if name is not None else []
    decided = {place: one.score for place, one in zip(places, graded, strict=True) if one.why != UNGRADABLE}

    async def review_row(place: int) -> Verdict:
        row, score = rows[place], decided.get(place)
        return await _judged(judge, row) if score is None else await _graded(judge, score, row)

    verdicts = await run_rows(review_row, range(len(rows)), progress)
    counts = tally(verdicts) | judge.counts()
    return verdicts, counts | {name: counts.get(name, 0) + more for name, more in counts_of(graded).items()}


def tally(verdicts: list[Verdict]) -> dict[str, int]:
    by = Counter(item.by for item in verdicts)
    return {
        "n": len(verdicts),
        "passed": sum(item.passed for item in verdicts),
        "by_grader": by["grader"],
        "by_judge": by["judge"],
        "unparsed": by["unparsed"],
        "leaked": sum(item.leaked for item in verdicts),
        "critiques": sum(item.critique is not None for item in verdicts),
    }


async def _judged(judge: JudgeClient, row: JudgeInput) -> Verdict:
    kind = Review if row.want_critique else Decision
    decision, call = await judge.ask(kind, review_messages(judge.params.domain, row), row)
    if decision is None:
        return Verdict(id=row.id, passed=False, by="unparsed", call_id=call.call_id)
    critique = decision.critique if isinstance(decision, Review) and not decision.correct else ""
    return _with_critique(Verdict(id=row.id, passed=decision.correct, by="judge", call_id=call.call_id), critique, row)


async def _graded(judge: JudgeClient, grade: float, row: JudgeInput) -> Verdict:
    """The grader decides by the reference; the judge only writes the critique, where one is wanted."""
    verdict = Verdict(id=row.id, passed=grade >= judge.params.pass_mark, by="grader")
    if verdict.passed or not row.want_critique:
        return verdict
    reply, call = await judge.ask(Critique, critique_messages(judge.params.domain, row), row)
    verdict = verdict.model_copy(update={"call_id": call.call_id})
    if reply is None:
        judge.counter["critiques_unparsed"] += 1
        return verdict
    return _with_critique(verdict, reply.critique, row)


def _with_critique(verdict: Verdict, critique: str, row: JudgeInput) -> Verdict:
    leaked = has_text(row.reference) and leaks(critique, row.reference or "")
    return verdict.model_copy(update={"critique": None if leaked else critique.strip() or None, "leaked": leaked})
