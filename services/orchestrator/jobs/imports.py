"""An import: what a source holds is read, questions are written where it holds none, and the rows become an uploaded file."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from math import ceil
from pathlib import PurePath
from typing import Any

from services.orchestrator.jobs import chats, generation
from services.orchestrator.jobs.coverage import SURPLUS
from services.orchestrator.jobs.distinct import Distinct
from services.orchestrator.jobs.import_replies import NothingToImport, check_first, failures, in_words
from services.orchestrator.runtime.run import DurableRun
from services.orchestrator.runtime.steps import StepClient, when_disk_has_space
from shared.contracts.coverage import TOPICS
from shared.contracts.imports import (
    AskParams,
    CompletionsOptions,
    DocumentsOptions,
    GenerateOptions,
    ImportJob,
    ImportResult,
    Passage,
    ReadParams,
    Source,
    Written,
)
from shared.contracts.steps import StepKind
from shared.datasets.files import add_made_file
from shared.importing.chats import ChatRows
from shared.importing.personal_data import masked
from shared.jobs.records import JobRecord
from shared.ledger.store import Ledger

MOST_LABELS, LONGEST_QUESTION = 500, 1500
BATCH = 8  # passages, or proposals, of one step


class ImportRun(DurableRun):
    def __init__(self, job: JobRecord, steps: StepClient, ledger: Ledger):
        self.request = ImportJob.model_validate(job.request)
        self.masked: Counter[str] = Counter()  # personal data by kind
        source = self.request.source
        reads = self.request.file is not None or not isinstance(source, GenerateOptions | CompletionsOptions)
        plan = {("read", StepKind.READ): 1} if reads else {}
        if isinstance(source, DocumentsOptions):
            plan["ask", StepKind.ASK] = ceil(1.5 * source.questions / source.per_passage)
        elif isinstance(source, GenerateOptions):
            plan[TOPICS, StepKind.PROPOSE] = 1
            plan[generation.QUESTIONS, StepKind.PROPOSE] = ceil(SURPLUS * source.count / source.per_call)
        super().__init__(job, steps, ledger, plan, BATCH)


async def import_rows(run: ImportRun) -> dict[str, Any]:
    """What is written into the job's row. Raises NothingToImport, and PauseHere where a coverage map is to be reviewed."""
    source, left_out, of_chats = run.request.source, Counter[str](), list[str]()
    told = ImportResult(file="", rows=0, left_out={})
    if isinstance(source, GenerateOptions):
        rows, told = await _generated(run, source, left_out)
    elif isinstance(source, DocumentsOptions):
        passages = [Passage.model_validate(row) for row in await _read(run, source, left_out)]
        rows = await _asked(run, source, passages, left_out)
    elif isinstance(source, CompletionsOptions):
        await run.enter("read")
        made = await asyncio.to_thread(chats.chat_rows, run, run.request, source, left_out, run.masked)
        if source.dataset is not None:
            return await _grown(run, source.dataset, made, left_out)
        rows = await asyncio.to_thread(chats.unlearned, run, run.request, made, left_out)
        of_chats = [str(row["id"]) for row in rows]
    else:
        rows = await _read(run, source, left_out)
    if not rows:
        raise NothingToImport("nothing was found that could become a row; left out: " + in_words(left_out))
    file_id = _file_id(run)
    shares = {"dev": run.request.dev_share, "test": run.request.test_share}
    about = {"filename": run.request.filename, "skipped": +left_out, **shares}
    about |= {"mask": run.request.mask, "masked": dict(run.masked), "of_chats": of_chats}
    await when_disk_has_space(
        lambda: add_made_file(
            run.stores.catalog, run.artifacts, run.uploads, run.job.project_id, rows, id=file_id, **about
        ),
        lambda _: None,
    )
    references = sum(bool(row.get("reference")) for row in rows)
    await run.emit(f"{len(rows)} rows are in {file_id}, {references} with a reference; left out: {in_words(left_out)}")
    counts = {"rows": len(rows), "references": references, "left_out": dict(+left_out), "masked": dict(run.masked)}
    made = {"file": file_id, "refused": run.refused_rows()} | counts
    return {"result": told.model_copy(update=made).model_dump(mode="json", exclude_defaults=True)}


def _file_id(run: ImportRun) -> str:
    return f"file-{run.job.id.partition('-')[2]}"


async def _grown(run: ImportRun, dataset: str, made: ChatRows, left_out: Counter[str]) -> dict[str, Any]:
    def grow() -> chats.Grown:
        return chats.grow(run, run.request, dataset, _file_id(run), made, left_out)

    file, added, replaced = await when_disk_has_space(grow, lambda _: None)
    what = f"{added} rows were added and {replaced} replaced in {file.id}"
    await run.emit(f"{what}, version {file.version} of {dataset}; left out: {in_words(left_out)}")
    result = ImportResult(
        file=file.id,
        rows=file.n_rows or 0,
        added=added,
        replaced=replaced,
        references=file.reading.references if file.reading else 0,
        left_out=dict(+left_out),
        masked=dict(run.masked),
    )
    return {"result": result.model_dump(mode="json", exclude_defaults=True)}


async def _read(run: ImportRun, source: Source, left_out: Counter[str]) -> list[dict[str, Any]]:
    await run.enter("read")
    name = PurePath(run.request.filename).stem if isinstance(source, DocumentsOptions | GenerateOptions) else ""
    params = ReadParams(source=source, sha256=run.request.sha256, name=name, mask=run.request.mask)
    read = await run.step("read", StepKind.READ, params, [])
    left_out.update(read.metrics["left_out"])
    run.masked.update(read.metrics.get("masked", {}))
    return read.rows


async def _generated(
    run: ImportRun, source: GenerateOptions, left_out: Counter[str]
) -> tuple[list[dict[str, Any]], ImportResult]:
    material: list[Passage] = []
    if run.request.file is not None:
        as_posted = source.model_copy(
            update={"coverage": None, "review": False}
        )  # what a review changes reads nothing new
        material = [Passage.model_validate(row) for row in await _read(run, as_posted, left_out)]
    if source.labels:
        material += await asyncio.to_thread(_labelled, run)
    cells = await generation.coverage_map(run, source, material)
    if source.coverage is None:
        source = source.model_copy(update={"coverage": cells})
        await asyncio.to_thread(run.stores.jobs.set_source, run.job, source.model_dump(mode="json"))
    generation.pause_for_review(run, source)
    return await generation.questions(run, source, cells, material, left_out)


def _shown(run: ImportRun, text: str) -> str:
    return masked(text, run.masked) if run.request.mask else text


def _labelled(run: ImportRun) -> list[Passage]:
    """Questions of the project's labels, of which each has an answer that people found worse. The labels of the time when the
    import was posted, so that each attempt reads the same."""
    labels = run.stores.labels.sample(run.job.project_id, MOST_LABELS, run.job.created_at)
    if not any(label.preferred != "tie" for label in labels):
        raise NothingToImport(
            "the project has no label that prefers an answer; leave source.labels out", param="source.labels"
        )
    return [
        Passage(id=label.id, document="log", text=_shown(run, label.question)[:LONGEST_QUESTION])
        for label in labels
        if label.preferred != "tie"
    ]


async def _asked(
    run: ImportRun, source: DocumentsOptions, passages: list[Passage], left_out: Counter[str]
) -> list[dict[str, Any]]:
    """Rows whose reference is the passage; rows of one passage are one group, so that it stands on one side of the split."""
    await run.enter("ask")
    params = AskParams(
        teacher=source.provider,
        domain=source.domain,
        per_passage=source.per_passage,
        max_tokens=source.max_tokens,
        seed=source.seed,
    )

    async def one(index: int, batch: Sequence[Passage]) -> list[Written]:
        answered = await run.step(f"ask/{index}", StepKind.ASK, params, batch)
        return [Written.model_validate(row) for row in answered.rows]

    check_first(await one(0, passages[: run.batch_size]), source)  # before the others are paid for
    written = [item for batch in await run.gather(one, passages) for item in batch]
    left_out["passages that the provider refuses"] += len(run.refused_rows())
    left_out += failures(written)
    dropped = sum(item.dropped - item.unchecked for item in written)
    left_out["questions that the passage does not answer, or that point at it"] += dropped
    return await asyncio.to_thread(balanced, source.questions, passages, written, left_out)


def balanced(
    most: int, passages: Sequence[Passage], written: Sequence[Written], left_out: Counter[str]
) -> list[dict[str, Any]]:
    """Of every document one question in turn, no two alike, `most` in all."""
    by_document: dict[str, list[tuple[Passage, str]]] = {}
    for passage, item in zip(passages, written, strict=True):
        by_document.setdefault(passage.document, []).extend((passage, question) for question in item.questions)
    distinct = Distinct()
    rows = []
    for passage, question in (pair for turn in zip_longest(*by_document.values()) for pair in turn if pair is not None):
        if len(rows) == most:
            left_out["over the limit"] += 1
            continue
        if not distinct.add(question):
            left_out["question like another one"] += 1
        else:
            rows.append(
                {
                    "question": question,
                    "reference": passage.shown,
                    "category": passage.document,
                    "group": passage.id,
                    "source": passage.id,
                }
            )
    return rows
