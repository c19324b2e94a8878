"""Imports: jobs of their own kind that end in an uploaded file."""

from pathlib import PurePath

from services.api.context import ApiContext
from services.api.features.files.service import clean_filename
from services.api.features.jobs import job_rows
from services.api.features.jobs.service import known_prices
from shared.contracts.distillation import Budget
from shared.contracts.errors import NotFound, UserError
from shared.contracts.imports import (
    DocumentsOptions,
    HubOptions,
    ImportChange,
    ImportJob,
    ImportObject,
    ImportRequest,
    ImportResult,
)
from shared.contracts.jobs import JobKind
from shared.jobs.records import FileRecord, JobRecord
from shared.jobs.states import FINAL_JOBS


def create(context: ApiContext, project: str, request: ImportRequest, key_id: str | None = None) -> ImportObject:
    """Queue an import. Raises UserError for a file or a provider that is not there."""
    file = _source_file(context, project, request)
    prices = known_prices(context) if isinstance(request.source, DocumentsOptions) else None
    if isinstance(request.source, DocumentsOptions) and prices is not None and request.source.provider not in prices:
        known = ", ".join(prices) or "none"
        raise UserError(
            f"no strong model is configured under the name {request.source.provider!r}; known: {known}",
            param="source.provider",
            code="provider_not_found",
        )
    stem = PurePath(file.filename).stem if file is not None else getattr(request.source, "dataset", "rows")
    job = ImportJob(
        **dict(request),
        sha256=file.sha256 if file is not None else None,
        filename=clean_filename(f"{stem.replace('/', '-')}.jsonl"),
        dev_share=context.settings.dev_share,
        test_share=context.settings.test_share,
    )
    return as_object(context, context.stores.jobs.create(project, job, prices, key_id=key_id))


def _source_file(context: ApiContext, project: str, request: ImportRequest) -> FileRecord | None:
    if isinstance(request.source, HubOptions):
        if request.file is not None:
            raise UserError("an import from the hub reads no file", param="file", code="invalid_value")
        return None
    if request.file is None:
        raise UserError(
            f"an import of type {request.source.type} reads a file: upload it with the purpose user_data, and name it",
            param="file",
            code="missing_required_parameter",
        )
    try:
        return context.stores.catalog.file(project, request.file)
    except NotFound as error:
        raise UserError(error.message, param="file", code="file_not_found") from error


def row(context: ApiContext, project: str, import_id: str) -> JobRecord:
    return job_rows.find(context, project, JobKind.IMPORT, import_id)


def get(context: ApiContext, project: str, import_id: str) -> ImportObject:
    return as_object(context, row(context, project, import_id))


def page(context: ApiContext, project: str, after: str | None, limit: int) -> tuple[list[ImportObject], bool]:
    rows, more = context.stores.jobs.page(project, after, limit, kind=JobKind.IMPORT)
    return [as_object(context, found) for found in rows], more


def cancel(context: ApiContext, project: str, import_id: str) -> ImportObject:
    """Raises Conflict on an import that has ended."""
    return as_object(context, context.stores.jobs.cancel(row(context, project, import_id)))


def pause(context: ApiContext, project: str, import_id: str) -> ImportObject:
    """Raises Conflict on an import that has ended or is being cancelled."""
    return as_object(context, context.stores.jobs.pause(row(context, project, import_id)))


def resume(context: ApiContext, project: str, import_id: str) -> ImportObject:
    """Raises Conflict on an import that is not paused."""
    return as_object(context, context.stores.jobs.resume(row(context, project, import_id)))


def change(context: ApiContext, project: str, import_id: str, wanted: ImportChange) -> ImportObject:
    """Raises Conflict on an import that has ended."""
    found = row(context, project, import_id)
    before = ImportJob.model_validate(found.request).budget.model_dump()
    budget = Budget.model_validate(before | wanted.budget.model_dump(exclude_unset=True))
    if found.status not in FINAL_JOBS:
        context.ledger.set_budget(import_id, budget, key_id=found.key_id)  # first, so that one which goes on finds it
    return as_object(context, context.stores.jobs.change(found, budget, None))


def as_object(context: ApiContext, found: JobRecord) -> ImportObject:
    job = ImportJob.model_validate(found.request)
    return ImportObject(
        **job_rows.standing(found),
        source=job.source,
        file=job.file,
        usage=context.ledger.usage(found.id),
        budget=job.budget,
        metadata=job.metadata,
        result=ImportResult.model_validate(found.result) if found.result else None,
    )
