"""Generates questions for a domain that has none: a model proposes topics, the coverage map is kept with the import and may be changed,
and rounds of questions fill it. The rounds end when one brings nothing new."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Any

from services.orchestrator.jobs.coverage import Coverage, Made, planned
from services.orchestrator.jobs.import_replies import NothingToImport, check_first, failures
from services.orchestrator.runtime.run import DurableRun, PauseHere
from shared.contracts.coverage import REVIEW, TOPICS, CoverageCell, Proposal, Proposed, ProposeParams
from shared.contracts.data import MAX_ID
from shared.contracts.imports import GenerateOptions, ImportResult, Passage
from shared.contracts.steps import StepKind

QUESTIONS = "questions"  # the phase after TOPICS
COVERAGE = "coverage"  # the stage after which source.review pauses
TOPIC_ROUNDS = 3
MORE_ROUNDS = 4  # beyond those that the map needs when every answer is of use
EXCERPTS, EXCERPT = 8, 300  # of the material, shown when topics are asked for; characters of each
GROUP_ID = MAX_ID - 10


def params_of(source: GenerateOptions, seed: int) -> ProposeParams:
    """seed: of the round, so that no provider gives an answer twice."""
    return ProposeParams(
        teacher=source.provider,
        domain=source.domain,
        max_tokens=source.max_tokens,
        temperature=source.temperature,
        seed=(source.seed + seed) % 2**31,
    )


async def coverage_map(run: DurableRun, source: GenerateOptions, material: Sequence[Passage]) -> list[CoverageCell]:
    """The map that the import was given or has made before; else a new one. Raises NothingToImport without a topic."""
    await run.enter(TOPICS)
    if source.coverage is not None:
        return source.coverage
    topics = source.topics or await _topics(run, source, material)
    cells = planned(topics, source.levels, source.count)
    used = len({cell.topic for cell in cells})
    unused = (
        f"; {len(topics) - used} topics are not used, since there are too few questions" if used < len(topics) else ""
    )
    shown = ", ".join(dict.fromkeys(cell.topic for cell in cells))
    await run.emit(f"{used} topics at {len({cell.level for cell in cells})} levels: {shown}{unused}", type="coverage")
    return cells


async def _topics(run: DurableRun, source: GenerateOptions, material: Sequence[Passage]) -> list[str]:
    excerpts = [" ".join(one.shown.split())[:EXCERPT] for one in material[:EXCERPTS]]
    origin = "" if not material else "log" if material[0].document == "log" else "passage"
    topics: dict[str, str] = {}
    replies: list[Proposed] = []
    for number in range(TOPIC_ROUNDS):
        wanted = Proposal(
            id=f"topics-{number}",
            count=source.topic_count - len(topics),
            known=list(topics.values()),
            material=excerpts,
            origin=origin,
        )
        result = await run.step(f"{TOPICS}/{number}", StepKind.PROPOSE, params_of(source, number), [wanted])
        replies += [Proposed.model_validate(row) for row in result.rows]
        before = len(topics)
        for topic in replies[-1].items if replies else []:
            topics.setdefault(topic.casefold(), topic)
        if len(topics) >= source.topic_count or (topics and len(topics) == before):
            break
    if not topics:
        check_first(replies, source)
        raise NothingToImport("the strong model names no topic; name some as source.topics", param="source.topics")
    if len(topics) < source.topic_count:
        await run.emit(f"the strong model names {len(topics)} of {source.topic_count} topics", level="warn")
    return list(topics.values())[: source.topic_count]


def pause_for_review(run: DurableRun, source: GenerateOptions) -> None:
    """Raises PauseHere, unless the import was paused there already."""
    if source.review and run.job.paused_after != COVERAGE:
        raise PauseHere(COVERAGE, f"{REVIEW}: change it or leave it, and resume the import")


async def questions(
    run: DurableRun,
    source: GenerateOptions,
    cells: Sequence[CoverageCell],
    material: Sequence[Passage],
    left_out: Counter[str],
) -> tuple[list[dict[str, Any]], ImportResult]:
    """Rows, and what the import's result says of the map."""
    await run.enter(QUESTIONS)
    coverage = Coverage(cells, material)
    for one in material:
        if one.document == "log":
            coverage.distinct.add(one.text)
    rounds = ceil(max(cell.questions for cell in cells) / source.per_call) + MORE_ROUNDS
    for number in range(1, rounds + 1):
        wanted = coverage.proposals(number, source.per_call)
        if not wanted:
            break
        before = coverage.missing
        await _round(run, source, coverage, number, wanted, left_out)
        if coverage.missing == before:
            break
    if coverage.missing:
        left_out["questions that the map wants and the strong model did not write"] = coverage.missing
        await run.emit(
            f"{coverage.missing} of {sum(cell.questions for cell in cells)} questions are missing: the strong model writes "
            "nothing new of their topics. More levels or other topics give more",
            level="warn",
            type="coverage",
        )
    left_out["requests that the provider refuses"] += len(run.refused_rows())
    result = ImportResult(file="", rows=0, left_out={}, coverage=coverage.covered(), shortfall=coverage.missing)
    return [_row(source, one) for one in coverage.questions], result


async def _round(
    run: DurableRun,
    source: GenerateOptions,
    coverage: Coverage,
    number: int,
    wanted: Sequence[Proposal],
    left_out: Counter[str],
) -> None:
    params = params_of(source, number)

    async def one(index: int, batch: Sequence[Proposal]) -> list[Proposed]:
        result = await run.step(f"{QUESTIONS}/{number}/ask/{index}", StepKind.PROPOSE, params, batch)
        return [Proposed.model_validate(row) for row in result.rows]

    if number == 1:
        check_first(await one(0, wanted[: run.batch_size]), source)  # before the others are paid for
    replies = [reply for batch in await run.gather(one, wanted) for reply in batch]
    left_out += failures(replies)
    for reply in replies:
        alike, over = await asyncio.to_thread(coverage.take, reply.id, reply.items)
        left_out["question like another one"] += alike
        left_out["over the limit"] += over
        left_out["questions that point at a text, or are too short or too long"] += reply.dropped


def _row(source: GenerateOptions, made: Made) -> dict[str, Any]:
    """A row with its lineage. Questions from one passage are one group, so that it stands on one side of the split."""
    origin = f"; from {made.material.id}" if made.material else ""
    row = {
        "question": made.question,
        "category": made.topic,
        "source": f"generated by {source.provider}: topic {made.topic}, {made.level}{origin}",
    }
    return row | ({"group": made.material.id[-GROUP_ID:]} if made.material else {})
