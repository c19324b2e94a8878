"""Phase 2, the judge's part (paper section 3.2), and the graders of the evaluation. Plain functions over rows."""

import asyncio
from collections import Counter

from services.judge.graders import all_scores, score
from services.judge.prompts import critique_messages, review_messages
from services.judge.replies import Critique, Decision, Review, leaks
from services.judge.structured_reply import Asking, Progress
from shared.contracts.distillation import Grader
from shared.contracts.errors import UserError
from shared.contracts.rows import Grades, JudgeInput, Verdict
from shared.contracts.steps import JudgeParams
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import run_rows


async def review(
    gateway: GatewayClient, params: JudgeParams, rows: list[JudgeInput], progress: Progress
) -> tuple[list[Verdict], dict[str, int]]:
    """A verdict per row, in the rows' order, and counts. All rows at once: the gateway limits what is sent.

    The first row that fails ends the step; what was sent by then is finished and cached by the gateway. Raises
    UserError for an unknown grader and what GatewayClient.chat raises.
    """
    asking = Asking(gateway, params)
    reviewing = _Reviewing(asking, params, known_grader(params.grader))
    verdicts = await run_rows(reviewing.verdict, rows, progress)
    return verdicts, tally(verdicts) | asking.counts()


async def grade(rows: list[JudgeInput], progress: Progress) -> tuple[list[Grades], dict[str, int]]:
    """All graders' scores per row; a row without a reference gets none and is counted.

    Row by row in a thread, so that the step's lease is renewed while long texts are compared.
    """
    grades = []
    for row in rows:
        scores = await asyncio.to_thread(all_scores, row.answer, row.reference) if row.reference else {}
        grades.append(Grades(id=row.id, scores=scores))
        progress(len(grades), len(rows))
    return grades, {"n": len(grades), "without_reference": sum(1 for item in grades if not item.scores)}


def known_grader(name: str | None) -> Grader | None:
    if name is None:
        return None
    try:
        return Grader(name)
    except ValueError:
        known = ", ".join(grader.value for grader in Grader)
        raise UserError(
            f"no grader is called {name!r}; use one of {known}",
            param="distillation.judge.grader",
            code="unknown_grader",
        ) from None


def has_reference(row: JudgeInput) -> bool:
    return bool(row.reference and row.reference.strip())


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


class _Reviewing:
    """Verdicts on attempts: by the grader where a reference decides, else by the judge."""

    def __init__(self, asking: Asking, params: JudgeParams, grader: Grader | None):
        self._asking = asking
        self._params = params
        self._grader = grader

    async def verdict(self, row: JudgeInput) -> Verdict:
        if self._grader is not None and has_reference(row):
            return await self._graded(self._grader, row)
        kind = Review if row.want_critique else Decision
        said, reply = await self._asking.ask(kind, review_messages(self._params.domain, row), row.id)
        if said is None:
            return Verdict(id=row.id, passed=False, by="unparsed", call_id=reply.call_id)
        hint = said.critique if isinstance(said, Review) and not said.correct else ""
        return self._with_hint(Verdict(id=row.id, passed=said.correct, by="judge", call_id=reply.call_id), hint, row)

    async def _graded(self, grader: Grader, row: JudgeInput) -> Verdict:
        """The reference decides; the judge is only asked why, and only where hints are wanted."""
        reached = await asyncio.to_thread(score, grader, row.answer, row.reference or "")
        verdict = Verdict(id=row.id, passed=reached >= self._params.pass_mark, by="grader")
        if verdict.passed or not row.want_critique:
            return verdict
        said, reply = await self._asking.ask(Critique, critique_messages(self._params.domain, row), row.id)
        verdict = verdict.model_copy(update={"call_id": reply.call_id})
        if said is None:
            self._asking.counted["critiques_unparsed"] += 1
            return verdict
        return self._with_hint(verdict, said.critique, row)

    def _with_hint(self, verdict: Verdict, hint: str, row: JudgeInput) -> Verdict:
        leaked = has_reference(row) and leaks(hint, row.reference or "")
        critique = hint.strip() or None
        return verdict.model_copy(update={"critique": None if leaked else critique, "leaked": leaked})
