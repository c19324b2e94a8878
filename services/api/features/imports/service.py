"""Imports: jobs of their own kind that end in an uploaded file."""

from collections.abc import Sequence
from pathlib import PurePath

from services.api.context import ProjectContext
from services.api.features.files.service import clean_filename
from services.api.features.jobs.checks import check_provider
from services.api.features.jobs.lifecycle import JobLifecycle, common_fields
from services.api.features.jobs.service import known_prices
from shared.contracts.coverage import TOPICS, CoverageCell
from shared.contracts.errors import Conflict, NotFound, UserError
from shared.contracts.estimate import Price, Spend
from shared.contracts.imports import (
    CompletionsOptions,
    DocumentsOptions,
    GenerateOptions,
    HubOptions,
    ImportChange,
    ImportEstimate,
    ImportJob,
    ImportObject,
    ImportRequest,
    ImportResult,
    OfRecipe,
    Source,
    StackExchangeOptions,
)
from shared.contracts.jobs import JobKind, JobStatus, Usage
from shared.contracts.json_types import Json
from shared.importing.stackexchange import site_of
from shared.jobs.records import FileRecord, JobRecord
from shared.plan.import_estimate import generation_spend


def create(
    context: ProjectContext,
    request: ImportRequest,
    *,
    job_id: str | None = None,
    recipe: OfRecipe | None = None,
    learned: Sequence[str] = (),
) -> ImportObject:
    """Queue an import. job_id: one that was drawn before; where an import has it already, that one is returned. recipe, learned: as in
    ImportJob. Raises UserError for a file or a provider that does not exist."""
    file, prices = _checked(context, request)
    named = _named(request.source)
    stem = PurePath(file.filename).stem if file is not None else named[:80]
    job = ImportJob(
        **dict(request.model_copy(update={"source": _with_site(request.source, file)})),
        sha256=file.sha256 if file is not None else None,
        filename=clean_filename(f"{stem.replace('/', '-')}.jsonl"),
        dev_share=context.settings.dev_share,
        test_share=context.settings.test_share,
        max_rows=context.settings.max_rows,
        recipe=recipe,
        learned=list(learned),
    )
    record = context.stores.jobs.create(context.project, job, prices, key_id=context.key_id, job_id=job_id)
    return lifecycle.show(context, record)


def _named(source: Source) -> str:
    """What the made file is called, where it is made of none."""
    match source:
        case HubOptions():
            return source.dataset
        case DocumentsOptions() | GenerateOptions():
            return source.domain
        case CompletionsOptions():
            return f"chats of {source.model}" if source.model else "chats"
    return "rows"


def estimate(context: ProjectContext, request: ImportRequest) -> ImportEstimate:
    """Raises what `create` raises. Nothing is queued, and no model is asked."""
    file, prices = _checked(context, request)
    _with_site(request.source, file)
    if isinstance(request.source, GenerateOptions):
        price = (prices or {}).get(request.source.provider)
        return ImportEstimate(strong_model=generation_spend(request.source, file is not None, price))
    return ImportEstimate(strong_model=None if isinstance(request.source, DocumentsOptions) else Spend())


def _checked(context: ProjectContext, request: ImportRequest) -> tuple[FileRecord | None, dict[str, Price] | None]:
    """The import's file, and the prices of providers where one is asked. Raises UserError."""
    file = _source_file(context, request)
    if isinstance(request.source, CompletionsOptions) and request.source.dataset is not None:
        dataset_of(context, request.source.dataset, "source.dataset")
    if not isinstance(request.source, DocumentsOptions | GenerateOptions):
        return file, None
    prices = known_prices(context)
    check_provider(request.source.provider, prices, "source.provider")
    return file, prices


def dataset_of(context: ProjectContext, file_id: str, param: str) -> FileRecord:
    """The newest version of the dataset that a file is a version of. Raises UserError."""
    newest = context.stores.catalog.newest(context.project, file_id)
    if newest is None:
        raise UserError(
            f"no file {file_id!r}; upload the dataset first (POST /v1/files), and name the id that the answer has",
            param=param,
            code="file_not_found",
        )
    if newest.rows_ref is None:
        raise UserError(
            f"{newest.id} is no dataset; upload it with the purpose fine-tune; POST /v1/files/{{id}}/validate says what is wrong "
            "with its lines",
            param=param,
            code="invalid_file",
        )
    return newest


def _with_site(source: Source, file: FileRecord | None) -> Source:
    """A dump of a named site. Raises UserError when neither the request nor the file's name says which."""
    if not isinstance(source, StackExchangeOptions) or source.site or file is None:
        return source
    site = site_of(file.filename)
    if site is None:
        raise UserError(
            "the links and authors of the posts need the site: name it, such as stats.stackexchange.com, or upload the file "
            "under the site's name",
            param="source.site",
            code="missing_required_parameter",
        )
    return source.model_copy(update={"site": site})


def _source_file(context: ProjectContext, request: ImportRequest) -> FileRecord | None:
    if isinstance(request.source, HubOptions | CompletionsOptions):
        if request.file is not None:
            what = "from the hub" if isinstance(request.source, HubOptions) else "of stored chats"
            raise UserError(f"an import {what} reads no file", param="file", code="invalid_value")
        return None
    if request.file is None and isinstance(request.source, GenerateOptions):
        if request.source.material != "documents":
            raise UserError("a log is a file: upload it, and name it", param="file", code="missing_required_parameter")
        return None
    if request.file is None:
        raise UserError(
            f"an import of type {request.source.type} reads a file: upload it with the purpose user_data, and name it",
            param="file",
            code="missing_required_parameter",
        )
    try:
        return context.file(request.file)
    except NotFound as error:
        raise UserError(error.message, param="file", code="file_not_found") from error


def change(context: ProjectContext, import_id: str, change: ImportChange) -> ImportObject:
    """Raises Conflict on an import that has ended, and for a coverage map that is no longer waited with."""
    record = lifecycle.record(context, import_id)
    if change.coverage is not None:
        record = context.stores.jobs.set_source(record, _with_coverage(record, change.coverage))
    if "budget" not in change.model_fields_set:
        return lifecycle.show(context, record)
    return lifecycle.show(context, lifecycle.change(context, record, change.budget, None))


def _with_coverage(record: JobRecord, cells: list[CoverageCell]) -> Json:
    source = ImportJob.model_validate(record.request).source
    if not isinstance(source, GenerateOptions):
        raise UserError(f"an import of type {source.type} has no coverage map", param="coverage", code="invalid_value")
    if record.status != JobStatus.PAUSED or record.phase != TOPICS:
        raise Conflict(
            "the coverage map can be changed while the import waits with it, which source.review asks for",
            param="coverage",
            code="coverage_not_open",
        )
    return source.model_copy(update={"coverage": cells}).model_dump(mode="json")


def _estimate(record: JobRecord, job: ImportJob) -> Spend | None:
    if not isinstance(job.source, GenerateOptions):
        return None
    return generation_spend(job.source, job.file is not None, (record.prices or {}).get(job.source.provider))


def as_objects(context: ProjectContext, records: Sequence[JobRecord]) -> list[ImportObject]:
    usages = context.ledger.usages([record.id for record in records])
    return [_as_object(record, usages[record.id]) for record in records]


def _as_object(record: JobRecord, usage: Usage) -> ImportObject:
    job = ImportJob.model_validate(record.request)
    return ImportObject(
        **common_fields(record),
        status_reason=record.status_reason,
        progress=record.progress,
        source=job.source,
        file=job.file,
        mask=job.mask,
        usage=usage,
        estimate=_estimate(record, job),
        budget=job.budget,
        metadata=job.metadata,
        result=ImportResult.model_validate(record.result) if record.result else None,
    )


lifecycle = JobLifecycle(JobKind.IMPORT, "import", as_objects)
