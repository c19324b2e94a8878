"""The graders of an eval on each of a run's answers."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from shared.contracts.eval_results import Checked, CheckInput, CriterionResult
from shared.contracts.evals import COMPARING, Criterion
from shared.contracts.grader_kinds import UNGRADABLE
from shared.contracts.templates import MissingField
from shared.grading.attempt import Attempt, Graded
from shared.grading.graders import Graders
from shared.platform.gateway_client import GatewayClient
from shared.platform.public_addresses import Network
from shared.platform.run_rows import OnProgress

AT_ONCE = 64  # rows for graders that ask elsewhere
STOPPED = ("slow", "crash")  # why an answer has no score of its own, by its own fault


async def check(
    criteria: Sequence[Criterion],
    files: Mapping[str, Path],
    sandbox: bool,
    rows: Sequence[CheckInput],
    progress: OnProgress,
    gateway: GatewayClient | None = None,
    networks: Sequence[Network] = (),
    plugins: Collection[str] = (),
) -> tuple[list[Checked], dict[str, int]]:
    """A result per row and criterion, in their orders. A row that a grader cannot grade has the reason as its error there.

    Each criterion has graders of its own: two may be of one kind. Raises UserError for code where the sandbox is off, and what
    graders raise that ask elsewhere.
    """
    with ExitStack() as opened:
        graders = [
            opened.enter_context(
                Graders([one.verifying] if one.verifying else [], files, sandbox, gateway, networks, plugins=plugins)
            )
            for one in criteria
        ]
        size = AT_ONCE if any(own.ask_elsewhere for own in graders) else 1
        checked: list[Checked] = []
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            columns = await asyncio.gather(
                *(_column(one, own, part) for one, own in zip(criteria, graders, strict=True))
            )
            checked += [
                Checked(id=row.id, results=list(results))
                for row, results in zip(part, zip(*columns, strict=True), strict=True)
            ]
            progress(len(checked), len(rows))
    failed = sum(result.error is not None for row in checked for result in row.results)
    return checked, {"n": len(checked)} | ({"errors": failed} if failed else {})


async def _column(one: Criterion, graders: Graders, rows: Sequence[CheckInput]) -> list[CriterionResult]:
    """One criterion's results. What its templates do not find is not graded."""
    attempts = [_attempt(one, row) for row in rows]
    given = [attempt for attempt in attempts if isinstance(attempt, Attempt)]
    graded = iter(await graders.score_all(one.graded_name, given) if given else [])
    return [_result(one, next(graded) if isinstance(attempt, Attempt) else attempt) for attempt in attempts]


def _attempt(one: Criterion, row: CheckInput) -> Attempt | Graded:
    """The item and the sample as they are, or for a grader that compares what its templates make of them."""
    attempt = Attempt(row.output_text, row.item)
    if one.type not in COMPARING:
        return attempt
    try:
        answer = attempt.filled(one.input)
    except MissingField as missing:
        return Graded(0.0, UNGRADABLE if str(missing).startswith("item") else "", str(missing))
    try:
        return Attempt(answer, row.item | {"reference": attempt.filled(one.reference)})
    except MissingField as missing:
        if one.has_its_own_reference:
            return Attempt(answer, row.item)
        return Graded(0.0, UNGRADABLE, str(missing))


def _result(one: Criterion, graded: Graded) -> CriterionResult:
    error = None
    if graded.why and graded.why not in STOPPED:
        error = graded.words or (
            "the item's reference cannot be graded against" if graded.why == UNGRADABLE else graded.why
        )
    return CriterionResult(
        name=one.name,
        type=one.type,
        score=graded.score,
        passed=error is None and graded.score >= one.pass_threshold,
        error=error,
        note=graded.why if graded.why in STOPPED else None,
    )
