"""Exports of versions: jobs of their own kind, and the files that they leave."""

from services.api.context import ApiContext
from services.api.features.jobs import job_rows
from shared.artifacts.archives import Parts, archive_of, manifest_of, readme_of, text
from shared.artifacts.store import ArtifactMissing
from shared.contracts.errors import NotFound, UserError
from shared.contracts.exports import (
    MANIFEST,
    README,
    Download,
    ExportFile,
    ExportFormat,
    ExportIndex,
    ExportObject,
    ExportRequest,
    ExportWish,
)
from shared.contracts.jobs import JobKind, JobStatus
from shared.contracts.steps import Method
from shared.jobs.records import JobRecord

NO_CONVERTER = (
    "GGUF files are made by llama.cpp's convert_hf_to_gguf.py, which no package of an index brings along: get a checkout of "
    "llama.cpp, install its requirements/requirements-convert_hf_to_gguf.txt, and set METEOR_GGUF_CONVERTER to the script's "
    "path for the api and the trainer; or export merged and convert that yourself"
)


def create(context: ApiContext, project: str, name: str, wish: ExportWish) -> ExportObject:
    """Queue an export that can be made. Raises UserError."""
    if any(name == base.name for base in context.students):
        raise UserError(
            f"{name!r} is a base and was not made here; export a version of an alias",
            param="model",
            code="not_exportable",
        )
    version = context.stores.catalog.resolve(project, name)
    if ExportFormat.ADAPTER in wish.formats and version.method == Method.FULL:
        raise UserError(
            f"{version.alias}@{version.version} was trained whole (method full) and has no adapter; ask for merged",
            param="formats",
            code="adapter_not_available",
        )
    if ExportFormat.GGUF in wish.formats and not _converts(context):
        raise UserError(NO_CONVERTER, param="formats", code="gguf_unavailable")
    if wish.push is not None and not context.settings.hub_token.get_secret_value():
        raise UserError(
            "nothing can be pushed: set HF_TOKEN, a token that may write to the repository, for the api and the trainer",
            param="push",
            code="no_hub_token",
        )
    request = ExportRequest(
        model=f"{version.alias}@{version.version}", model_id=version.id, formats=wish.formats, push=wish.push
    )
    return as_object(context.stores.jobs.create(project, request))


def _converts(context: ApiContext) -> bool:
    converter = context.settings.gguf_converter
    return converter is not None and converter.is_file()


def row(context: ApiContext, project: str, export_id: str) -> JobRecord:
    return job_rows.find(context, project, JobKind.EXPORT, export_id)


def get(context: ApiContext, project: str, export_id: str) -> ExportObject:
    return as_object(row(context, project, export_id))


def page(context: ApiContext, project: str, after: str | None, limit: int) -> tuple[list[ExportObject], bool]:
    rows, more = context.stores.jobs.page(project, after, limit, kind=JobKind.EXPORT)
    return [as_object(found) for found in rows], more


def cancel(context: ApiContext, project: str, export_id: str) -> ExportObject:
    """Raises Conflict on an export that has ended."""
    return as_object(context.stores.jobs.cancel(row(context, project, export_id)))


def pause(context: ApiContext, project: str, export_id: str) -> ExportObject:
    """Raises Conflict on an export that has ended or is being cancelled."""
    return as_object(context.stores.jobs.pause(row(context, project, export_id)))


def resume(context: ApiContext, project: str, export_id: str) -> ExportObject:
    """Raises Conflict on an export that is not paused."""
    return as_object(context.stores.jobs.resume(row(context, project, export_id)))


def content(context: ApiContext, project: str, export_id: str, name: str) -> tuple[Download, Parts]:
    """One of an export's downloads. Raises NotFound for another name, before the export has ended well, and when its files
    are not kept any more."""
    found = row(context, project, export_id)
    if found.status != JobStatus.SUCCEEDED:
        message = f"export {export_id} is {found.status}; its files are there when it has succeeded"
        raise NotFound(message, param="export_id", code="export_not_ready")
    index = ExportIndex.model_validate(context.artifacts.get_json(found.report_ref))
    download = next((one for one in index.downloads if one.name == name), None)
    if download is None:
        names = ", ".join(one.name for one in index.downloads)
        raise NotFound(f"export {export_id} has no {name[:100]!r}; it has {names}", param="name", code="file_not_found")
    if download.format is None:
        return download, text({README: readme_of, MANIFEST: manifest_of}[name](index))
    try:
        return download, archive_of(index, download.format, context.artifacts)
    except ArtifactMissing as error:
        raise NotFound(
            f"the files of export {export_id} are not kept any more (METEOR_RETENTION); export the model again",
            param="export_id",
            code="export_expired",
        ) from error


def as_object(found: JobRecord) -> ExportObject:
    request = ExportRequest.model_validate(found.request)
    result = found.result or {}
    files = [
        ExportFile(**download, url=f"/v1/exports/{found.id}/content/{download['name']}")
        for download in result.get("downloads", [])
    ]
    return ExportObject(
        **job_rows.standing(found),
        model=request.model,
        formats=request.formats,
        push=request.push,
        result=files or None,
        parity=result.get("parity"),
        pushed=result.get("pushed"),
    )
