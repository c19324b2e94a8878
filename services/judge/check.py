"""The graders of an eval on each of a run's answers, on this machine."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from shared.contracts.evals import Checked, CheckInput, Criterion, CriterionResult
from shared.contracts.grader_kinds import UNGRADABLE
from shared.contracts.templates import MissingField, filled, sample_of
from shared.grading.attempt import Graded
from shared.grading.graders import Graders
from shared.platform.run_rows import OnProgress

OWN_TEMPLATES = ("string_check", "text_similarity", "python", "multi")


async def check(
    criteria: Sequence[Criterion],
    files: Mapping[str, Path],
    sandbox: bool,
    rows: Sequence[CheckInput],
    progress: OnProgress,
) -> tuple[list[Checked], dict[str, int]]:
    """A result per row and criterion, in their orders. A row that a grader cannot grade has the reason as its error there.

    Each criterion has graders of its own: two may be of one kind. Raises UserError for code where the sandbox is off.
    """
    with ExitStack() as opened:
        graders = [
            opened.enter_context(Graders([one.verifying] if one.verifying else [], files, sandbox)) for one in criteria
        ]
        checked: list[Checked] = []
        for row in rows:
            results = [
                await asyncio.to_thread(_result, one, own, row) for one, own in zip(criteria, graders, strict=True)
            ]
            checked.append(Checked(id=row.id, results=results))
            progress(len(checked), len(rows))
    failed = sum(result.error is not None for row in checked for result in row.results)
    return checked, {"n": len(checked)} | ({"errors": failed} if failed else {})


def _result(one: Criterion, graders: Graders, row: CheckInput) -> CriterionResult:
    graded = _graded(one, graders, row)
    errors = {UNGRADABLE: graded.words or "the item's reference cannot be graded against", "error": graded.words}
    error = errors.get(graded.why)
    return CriterionResult(
        name=one.name,
        type=one.type,
        score=graded.score,
        passed=error is None and graded.score >= one.pass_threshold,
        error=error,
        note=graded.why if error is None and graded.why else None,
    )


def _graded(one: Criterion, graders: Graders, row: CheckInput) -> Graded:
    question = row.item.get("question")
    asked = question if isinstance(question, str) else ""
    if one.type in OWN_TEMPLATES:
        reference = row.item.get("reference")
        given = reference if isinstance(reference, str) else ""
        return graders.score(one.graded_name, row.output_text, given, asked, row.item)
    try:
        answer, reference = (filled(text, row.item, sample_of(row.output_text)) for text in (one.input, one.reference))
    except MissingField as missing:
        if str(missing).startswith("sample"):
            return Graded(0.0)
        answer, reference = "", ""
        if "reference" in str(missing) and one.type == "json_schema":  # its own schema may stand in its settings
            answer = filled(one.input, row.item, sample_of(row.output_text))
        else:
            return Graded(0.0, UNGRADABLE, str(missing))
    return graders.score(one.graded_name, answer, reference, asked, row.item)
