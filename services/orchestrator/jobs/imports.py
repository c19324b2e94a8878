"""An import: what a source holds is read, questions are written where it holds none, and the rows become an uploaded file."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from math import ceil
from pathlib import PurePath
from typing import Any

from rapidfuzz import fuzz, process
from rapidfuzz.utils import default_process as alike_form

from services.orchestrator.runtime.run import DurableRun
from services.orchestrator.runtime.steps import StepClient, when_disk_has_space
from shared.contracts.errors import FatalError
from shared.contracts.imports import AskParams, DocumentsOptions, ImportJob, Passage, ReadParams, Written
from shared.contracts.steps import StepKind
from shared.datasets.files import add_made_file
from shared.jobs.records import JobRecord
from shared.ledger.store import Ledger

NUMBERS = re.compile(r"\d+")
BATCH = 8  # passages of one step
ALIKE = 90.0  # percent of the words of two questions, in any order, above which they are the same one


UNREAD = {  # why no question was read in a reply -> how it is counted
    "cut_off": "replies cut off at source.max_tokens",
    "empty": "empty replies",
    "unreadable": "replies that could not be read",
}
UNCHECKED = "questions whose check was answered with neither yes nor no"
REMEDIES = {
    UNREAD["cut_off"]: "raise source.max_tokens (a reasoning model also thinks within it)",
    UNREAD[
        "empty"
    ]: "raise source.max_tokens (a reasoning model also thinks within it), or name another source.provider",
    UNREAD["unreadable"]: "name another source.provider: this one does not write the list of questions it is asked for",
    UNCHECKED: "name another source.provider: this one does not answer yes or no to the check of a question",
}


class NothingToImport(FatalError):
    code = "nothing_to_import"


class ImportRun(DurableRun):
    def __init__(self, job: JobRecord, steps: StepClient, ledger: Ledger):
        self.request = ImportJob.model_validate(job.request)
        plan = {("read", StepKind.READ): 1}
        if isinstance(self.request.source, DocumentsOptions):
            plan["ask", StepKind.ASK] = ceil(1.5 * self.request.source.questions / self.request.source.per_passage)
        super().__init__(job, steps, ledger, plan, BATCH)


async def import_rows(run: ImportRun) -> dict[str, Any]:
    """What is written into the job's row. Raises NothingToImport."""
    source = run.request.source
    await run.enter("read")
    name = PurePath(run.request.filename).stem if isinstance(source, DocumentsOptions) else ""
    params = ReadParams(source=source, sha256=run.request.sha256, name=name)
    read = await run.step("read", StepKind.READ, params, [])
    rows, left_out = read.rows, Counter(read.metrics["left_out"])
    if isinstance(source, DocumentsOptions):
        rows = await _asked(run, source, [Passage.model_validate(row) for row in rows], left_out)
    if not rows:
        raise NothingToImport("nothing was found that could become a row; left out: " + _words(left_out))
    file_id = f"file-{run.job.id.partition('-')[2]}"
    about = {"filename": run.request.filename, "dev": run.request.dev_share, "test": run.request.test_share}
    await when_disk_has_space(
        lambda: add_made_file(
            run.stores.catalog, run.artifacts, run.files, run.job.project_id, rows, id=file_id, **about
        ),
        lambda _: None,
    )
    await run.emit(f"{len(rows)} rows are in {file_id}; left out: {_words(left_out)}")
    refused = {"refused": [row.model_dump() for row in run.refused_rows()]} if run.refused_rows() else {}
    return {"result": {"file": file_id, "rows": len(rows), "left_out": dict(+left_out)} | refused}


def _words(left_out: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted((+left_out).items())) or "nothing"


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


def failures(written: Sequence[Written]) -> Counter[str]:
    """Replies without a question and checks without a verdict, by reason."""
    counts = Counter(UNREAD[item.why or "unreadable"] for item in written if item.unparsed)
    counts[UNCHECKED] += sum(item.unchecked for item in written)
    return +counts


def check_first(written: Sequence[Written], source: DocumentsOptions) -> None:
    """Raises NothingToImport when no question comes of the first passages because of how the replies are."""
    if any(item.questions or not (item.unparsed or item.unchecked) for item in written) or not written:
        return
    counts = failures(written)
    reason = counts.most_common(1)[0][0]
    raise NothingToImport(
        f"no question came of the first {len(written)} passages: {_words(counts)}. source.max_tokens is "
        f"{source.max_tokens}, source.provider is {source.provider!r}; {REMEDIES[reason]}",
        param="source.max_tokens" if "max_tokens" in REMEDIES[reason] else "source.provider",
    )


def balanced(
    most: int, passages: Sequence[Passage], written: Sequence[Written], left_out: Counter[str]
) -> list[dict[str, Any]]:
    """Of every document one question in turn, no two alike, `most` in all."""
    by_document: dict[str, list[tuple[Passage, str]]] = {}
    for passage, item in zip(passages, written, strict=True):
        by_document.setdefault(passage.document, []).extend((passage, question) for question in item.questions)
    kept: dict[tuple[str, ...], list[str]] = {}  # by the numbers in them: another number asks for something else
    rows = []
    for passage, question in (pair for turn in zip_longest(*by_document.values()) for pair in turn if pair is not None):
        if len(rows) == most:
            left_out["over the limit"] += 1
            continue
        like = kept.setdefault(tuple(NUMBERS.findall(question)), [])
        if process.extractOne(question, like, scorer=fuzz.token_sort_ratio, processor=alike_form, score_cutoff=ALIKE):
            left_out["question like another one"] += 1
        else:
            like.append(question)
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
