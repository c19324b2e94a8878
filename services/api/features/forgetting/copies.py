"""Where rows and chats were copied to: labels, items of evals and exports. Labels and items have no link to a row, so they are found by
their texts; items of a dataset keep the row's id."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from services.api.context import ProjectContext
from shared.artifacts.store import ArtifactMissing
from shared.contracts.conversation import text_of
from shared.contracts.data import Question
from shared.contracts.errors import NotFound, UserError
from shared.contracts.evals import EvalRun, FileById
from shared.contracts.exports import ExportRequest
from shared.contracts.forgetting import Call, EvaluatedBy, ExportedBy, HeldBy, LearnedBy
from shared.contracts.json_types import Json
from shared.datasets.eval_items import items_of
from shared.datasets.files import rows_of
from shared.jobs.records import FileRecord, JobRecord


def texts_of_chats(context: ProjectContext, completions: Sequence[str]) -> set[str]:
    """What the users of these stored chats have said: the last turn, and all turns."""
    texts = set[str]()
    for name in completions:
        try:
            messages = context.stores.chats.get(context.project, name).request.get("messages") or []
        except NotFound:  # it has expired meanwhile
            continue
        turns = [text_of(one.get("content") or "").strip() for one in messages if one.get("role") == "user"]
        texts.update((turns[-1], "\n\n".join(turns)) if turns else ())
    return texts - {""}


def texts_of_rows(context: ProjectContext, held: Sequence[HeldBy]) -> set[str]:
    """The questions of these rows, in each form in which they are asked."""
    files = {file.id: file for file in context.stores.catalog.datasets(context.project)}
    texts = set[str]()
    for one in held:
        file = files.get(one.file)  # None where it was deleted meanwhile
        for row in _read(context, file, one.rows) if file else ():
            texts.update(text.strip() for text in (row.question, row.asked, row.text, row.spoken))
    return texts - {""}


def _read(context: ProjectContext, file: FileRecord, ids: Sequence[str]) -> list[Question]:
    """None where the rows of a deleted file have been collected meanwhile."""
    try:
        stored = rows_of(file, context.artifacts, context.stores.catalog)
        return list(stored.read(sorted(place for row in ids if (place := stored.find(row)) is not None)))
    except ArtifactMissing:
        return []


def runs_with(
    context: ProjectContext, ids: Collection[str], texts: Collection[str], held: Sequence[HeldBy]
) -> Iterator[EvaluatedBy]:
    """Runs with items of these rows. ids: of rows, where an id means one row in every dataset. held: of each file, its own rows."""
    own = {one.file: frozenset(one.rows) for one in held}
    words = frozenset(texts)
    for run in context.stores.evals.every_run(context.project):
        request = EvalRun.model_validate(run.request)
        source = request.data_source.source
        file = source.id if isinstance(source, FileById) else None
        wanted = own.get(file or "", frozenset()) | frozenset(ids)
        places = [n for n, item in enumerate(_items(context, run, request)) if _holds(item, wanted, words)]
        if places:
            remove = Call(method="DELETE", path=f"/v1/evals/{request.eval_id}/runs/{run.id}")
            yield EvaluatedBy(eval=request.eval_id, run=run.id, file=file, items=places, remove=remove)


def _items(context: ProjectContext, run: JobRecord, request: EvalRun) -> list[Json]:
    """Those that the run has kept; else those of its source. None where both are gone."""
    if run.report_ref is not None:
        try:
            return [one["item"] for one in context.artifacts.get_json(run.report_ref)["items"]]
        except ArtifactMissing:
            pass
    source = request.data_source.source
    try:
        file = context.file(source.id) if isinstance(source, FileById) else None
        return [one.item for one in items_of(source, file, context.uploads, context.artifacts, context.stores.catalog)]
    except (NotFound, ArtifactMissing, UserError, FileNotFoundError):
        return []  # the file was deleted, or cannot be read any more


def _holds(item: Json, ids: frozenset[str], texts: frozenset[str]) -> bool:
    own = item.get("id")
    return (isinstance(own, str) and own in ids) or any(text.strip() in texts for text in _strings(item))


def _strings(value: Any) -> Iterator[str]:
    """All texts of an item, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def exports_of(context: ProjectContext, models: Sequence[LearnedBy]) -> list[ExportedBy]:
    made = context.stores.jobs.exporting(context.project, [one.model for one in models]) if models else []
    return [
        ExportedBy(
            id=job.id, model=ExportRequest.model_validate(job.request).model, pushed=(job.result or {}).get("pushed")
        )
        for job in made
    ]
