"""What a job starts from: a base, or a version whose training it continues."""

from collections.abc import Iterator
from typing import Any

from services.api.context import ProjectContext
from services.api.features.jobs.posted import Posted
from shared.contracts.distillation import Adapter, Distillation
from shared.contracts.errors import NotFound
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import Problem
from shared.contracts.steps import Method
from shared.jobs.records import ModelRecord

SHAPE = ("rank", "alpha", "targets", "use_dora")  # of an adapter; a training that continues one keeps them


def pinned(context: ProjectContext, request: JobRequest) -> JobRequest:
    """The request as it stays true: a version by its number instead of its alias, and with the shape of its adapter where the
    request says nothing of it. A base, and a name that nobody knows, stay as they are."""
    version = version_of(context, request.model)
    if version is None:
        return request
    spec = request.distillation
    given = spec.adapter.model_fields_set
    kept = {field: value for field, value in _shape(context, version, spec.adapter).items() if field not in given}
    adapter = spec.adapter.model_copy(update=kept)
    if adapter.method is Method.FULL:  # whose rates are other ones
        spec = Distillation.model_validate(spec.model_dump(exclude_unset=True) | {"adapter": adapter.model_dump()})
    spec = spec.model_copy(update={"adapter": adapter})
    return request.model_copy(update={"model": name_of(version), "distillation": spec})


def problems(posted: Posted, version: ModelRecord) -> Iterator[Problem | str]:
    """Why a version cannot be continued."""
    name, bases = name_of(version), [base.name for base in posted.context.students]
    if version.base not in bases:
        yield Problem(
            code="base_not_served",
            param="model",
            message=f"{name} was trained on {version.base!r}, which is no student here ({', '.join(bases)})",
            remedy="METEOR_STUDENTS adds it",
        )
    for field, value in _shape(posted.context, version, posted.spec.adapter).items():
        if getattr(posted.spec.adapter, field) != value:
            yield Problem(
                code="adapter_differs",
                param=f"distillation.adapter.{field}",
                message=f"{name} was trained with {field} {value}, and a training that goes on from it keeps that",
                remedy=f"leave the field out, or start from {version.base}",
            )
    if version.base in bases:
        yield f"student {name!r}: goes on from this version of {version.base!r}"


def version_of(context: ProjectContext, model: str) -> ModelRecord | None:
    """None for a base, and for a name that nobody knows."""
    if context.is_base(model) or context.bases.find(model) is not None:
        return None
    try:
        return context.stores.catalog.resolve(context.project, model)
    except NotFound:
        return None


def learned_from(context: ProjectContext, model: str) -> list[str]:
    """The files that a version learned from, those of the versions that it went on from included."""
    files, seen = list[str](), set[str]()
    version = version_of(context, model)
    while version is not None and version.job_id and version.job_id not in seen:
        seen.add(version.job_id)
        job = context.stores.jobs.get(version.job_id, context.project)
        if job is None:
            break
        files += filter(None, (job.file_id, job.request.get("validation_file")))
        version = version_of(context, str(job.request.get("model", "")))
    return files


def name_of(version: ModelRecord) -> str:
    return f"{version.alias}@{version.version}"


def _shape(context: ProjectContext, version: ModelRecord, wanted: Adapter) -> dict[str, Any]:
    """The settings of its training that one that goes on from it has too. DoRA starts anew on any whole model."""
    if wanted.use_dora and Method(version.method) is Method.FULL:
        return {}
    shape: dict[str, Any] = {"method": Method(version.method)}
    job = context.stores.jobs.get(version.job_id) if version.job_id and version.method == Method.LORA else None
    if job is None:
        return shape
    adapter = JobRequest.model_validate(job.request).distillation.adapter
    return shape | {field: getattr(adapter, field) for field in SHAPE}
