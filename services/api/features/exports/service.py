"""Exports of versions: jobs of their own kind, and the files that they produce."""

from collections.abc import Sequence

from services.api.context import ProjectContext
from services.api.features.jobs.lifecycle import JobLifecycle, common_fields
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


def create(context: ProjectContext, name: str, wish: ExportWish) -> ExportObject:
    """Queue an export that can be made. Raises UserError."""
    if context.is_base(name):
        raise UserError(
            f"{name!r} is a base model and was not trained here; export a version of an alias",
            param="model",
            code="not_exportable",
        )
    version = context.stores.catalog.resolve(context.project, name)
    if ExportFormat.ADAPTER in wish.formats and version.method == Method.FULL:
        raise UserError(
            f"{version.alias}@{version.version} was trained with method full and has no adapter; ask for merged",
            param="formats",
            code="adapter_not_available",
        )
    if ExportFormat.GGUF in wish.formats and not _has_converter(context):
        raise UserError(NO_CONVERTER, param="formats", code="gguf_unavailable")
    if wish.push is not None and not context.settings.hub_token.get_secret_value():
        raise UserError(
            "a push needs HF_TOKEN, a token that may write to the repository; set it for the api and the trainer",
            param="push",
            code="no_hub_token",
        )
    request = ExportRequest(
        model=f"{version.alias}@{version.version}", model_id=version.id, formats=wish.formats, push=wish.push
    )
    return as_object(context, context.stores.jobs.create(context.project, request))


def _has_converter(context: ProjectContext) -> bool:
    converter = context.settings.gguf_converter
    return converter is not None and converter.is_file()


def content(context: ProjectContext, export_id: str, name: str) -> tuple[Download, Parts]:
    """One of an export's files. Raises NotFound for an unknown name, while the export has not succeeded, and when its files
    have expired."""
    export = lifecycle.record(context, export_id)
    if export.status != JobStatus.SUCCEEDED:
        message = f"export {export_id} is {export.status}; its files exist once it has succeeded"
        raise NotFound(message, param="export_id", code="export_not_ready")
    index = ExportIndex.model_validate(context.artifacts.get_json(export.report_ref))
    download = next((file for file in index.downloads if file.name == name), None)
    if download is None:
        names = ", ".join(file.name for file in index.downloads)
        raise NotFound(f"export {export_id} has no {name[:100]!r}; it has {names}", param="name", code="file_not_found")
    if download.format is None:
        return download, text({README: readme_of, MANIFEST: manifest_of}[name](index))
    try:
        return download, archive_of(index, download.format, context.artifacts)
    except ArtifactMissing as error:
        raise NotFound(
            f"the files of export {export_id} have expired (METEOR_RETENTION); export the model again",
            param="export_id",
            code="export_expired",
        ) from error


def as_object(_: ProjectContext, export: JobRecord) -> ExportObject:
    request = ExportRequest.model_validate(export.request)
    result = export.result or {}
    files = [
        ExportFile(**download, url=f"/v1/exports/{export.id}/content/{download['name']}")
        for download in result.get("downloads", [])
    ]
    return ExportObject(
        **common_fields(export),
        status_reason=export.status_reason,
        progress=export.progress,
        model=request.model,
        formats=request.formats,
        push=request.push,
        result=files or None,
        parity=result.get("parity"),
        pushed=result.get("pushed"),
    )


def as_objects(context: ProjectContext, exports: Sequence[JobRecord]) -> list[ExportObject]:
    return [as_object(context, export) for export in exports]


lifecycle = JobLifecycle(JobKind.EXPORT, "export", as_objects)
