"""Stored chats on their way into a dataset, or into the next version of one.

They are read here and not by a worker, so that no step keeps a copy of a chat that is to be forgotten. An import makes exactly one file,
whatever process is killed: the file's id is that of the import, and a recipe's run takes each chat once.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from services.orchestrator.jobs.import_replies import NothingToImport, in_words
from services.orchestrator.runtime.run import DurableRun
from shared.artifacts.store import ArtifactMissing
from shared.contracts.data import Question
from shared.contracts.errors import FatalError, NotFound
from shared.contracts.imports import MOST_ROWS, CompletionsOptions, ImportJob
from shared.contracts.json_types import Json
from shared.contracts.versions import VersionRequest
from shared.datasets.files import rows_of
from shared.importing import storing
from shared.importing.chats import Additions, ChatRows, additions, rows_of_chats
from shared.importing.personal_data import masked_row
from shared.jobs.catalog import Outdated
from shared.jobs.chat_store import ChatFilter
from shared.jobs.records import FileRecord

UNWANTED, AGREEING = "feedback of another kind", "choices that agree, or a single one"


class Grown(NamedTuple):
    """The version that was made."""

    file: FileRecord
    added: int
    replaced: int


def chat_rows(
    run: DurableRun, request: ImportJob, source: CompletionsOptions, left_out: Counter[str], masked: Counter[str]
) -> ChatRows:
    """left_out, masked: are counted up, by reason and kind. Raises UserError for more chats than an import holds."""
    store, project, posted = run.stores.chats, run.job.project_id, run.job.created_at
    until = posted if source.until is None else min(source.until, posted)
    wanted = ChatFilter.of(source)._replace(until=until)
    if request.recipe is not None:
        store.take(project, wanted, request.recipe)
        wanted = ChatFilter()  # what was taken, whatever is said of it since
        source = source.model_copy(update={"limit": source.limit or MOST_ROWS})
    else:
        judged = wanted._replace(agreement_below=None)
        every, of_kind = store.count(project, judged._replace(feedback=())), store.count(project, judged)
        left_out[UNWANTED] += every - of_kind
        left_out[AGREEING] += of_kind - store.count(project, wanted)
    made = rows_of_chats(store.judged(project, wanted, request.recipe), source, left_out)
    gone = store.note_origins(made.origins)
    left_out["chats that were deleted meanwhile"] += len(gone)
    rows = [row for row in made.rows if row["id"] not in gone]
    return made._replace(rows=[masked_row(row, masked) for row in rows] if request.mask else rows)


def unlearned(run: DurableRun, request: ImportJob, made: ChatRows, left_out: Counter[str]) -> list[Json]:
    """The rows of a new dataset: those that the recipe's model has not learned from others."""
    return additions(made, (), _learned(run, request, None), left_out).append


def grow(
    run: DurableRun, request: ImportJob, dataset: str, file_id: str, made: ChatRows, left_out: Counter[str]
) -> Grown:
    """The next version of a dataset, of its newest one when it is added. Raises NothingToImport, FatalError, StorageFull, DiskLow,
    ChatsGone."""
    catalog, project = run.stores.catalog, run.job.project_id
    with suppress(NotFound):
        return Grown(catalog.file(project, file_id), 0, 0)  # an earlier attempt added it
    while True:
        base, known = _newest(run, dataset), Counter[str]()
        add = additions(made, rows_of(base, run.artifacts, catalog), _learned(run, request, base), known)
        if not (add.append or add.edit):
            raise NothingToImport("no chat brings a new row; left out: " + in_words(left_out + known))
        handle, name = tempfile.mkstemp(dir=run.uploads.folder, prefix=".upload-")
        os.close(handle)
        content = Path(name)
        try:
            version = _version(run, request, base, add, content)
            new = [str(row["id"]) for row in (*add.append, *add.edit)]
            with run.uploads.alone(), suppress(Outdated):
                file = storing.keep_version(
                    run.uploads, catalog, project, base, version, content, id=file_id, newest=base.id, of_chats=new
                )
                left_out.update(known)
                return Grown(file, len(add.append) - len(add.remove), len(add.remove) + len(add.edit))
        finally:
            content.unlink(missing_ok=True)


def _newest(run: DurableRun, dataset: str) -> FileRecord:
    """Raises FatalError if there is none any more."""
    version = run.stores.catalog.newest(run.job.project_id, dataset)
    if version is None:
        message = f"the dataset {dataset!r} was deleted; name another one, or none"
        raise FatalError(message, param="source.dataset", code="file_not_found")
    return version


def _version(run: DurableRun, request: ImportJob, base: FileRecord, add: Additions, content: Path) -> storing.Version:
    change = VersionRequest.model_construct(append=add.append, append_file=None, edit=add.edit, remove=add.remove)
    limits = storing.Limits(request.dev_share, request.test_share, 0, request.max_rows)
    references = rows_of(base, run.artifacts, run.stores.catalog).references
    return storing.versioned(run.artifacts, references, change, None, limits, content, base.reading)


def _learned(run: DurableRun, request: ImportJob, base: FileRecord | None) -> Iterator[Question]:
    """Rows of other datasets that the model learned from, as far as they are still there."""
    dataset = base and (base.dataset_id or base.id)
    for file_id in request.learned:
        try:
            file = run.stores.catalog.file_of_job(file_id)
            if (file.dataset_id or file.id) != dataset and file.rows_ref is not None:
                yield from rows_of(file, run.artifacts, run.stores.catalog)
        except (ArtifactMissing, NotFound):
            continue
