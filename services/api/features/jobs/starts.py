"""What a job starts from: a base, or a version whose training it continues."""

from services.api.context import ProjectContext
from shared.contracts.errors import NotFound, UserError
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import Method
from shared.jobs.records import ModelRecord

SHAPE = ("rank", "alpha", "targets")  # of an adapter; a training that continues one keeps them


def base_of(context: ProjectContext, model: str) -> str:
    """The base's name of a request's `model`, which may be a version. Any other name is returned as it is."""
    version = _version(context, model)
    return version.base if version is not None else model


def pinned(context: ProjectContext, request: JobRequest) -> JobRequest:
    """The request as it stays true: a version by its number instead of its alias, and the shape of its adapter. Raises UserError
    where the version cannot be continued."""
    version = _version(context, request.model)
    if version is None:
        return request
    name = f"{version.alias}@{version.version}"
    if not context.is_base(version.base):
        known = ", ".join(base.name for base in context.students)
        raise UserError(
            f"{name} was trained on {version.base!r}, which is no student here ({known}); METEOR_STUDENTS adds it",
            param="model",
            code="base_not_served",
        )
    before = _adapter(context, version) | {"method": Method(version.method)}
    adapter = request.distillation.adapter
    for field, value in before.items():
        if field in adapter.model_fields_set and getattr(adapter, field) != value:
            raise UserError(
                f"{name} was trained with {field} {_shown(value)}, and a training that continues it keeps that; leave "
                f"distillation.adapter.{field} out, or start from {version.base}",
                param=f"distillation.adapter.{field}",
                code="adapter_differs",
            )
    spec = request.distillation.model_dump(exclude_unset=True)
    spec["adapter"] = spec.get("adapter", {}) | before
    body = request.model_dump(exclude_unset=True) | {"model": name, "distillation": spec}
    return JobRequest.model_validate(body)


def _version(context: ProjectContext, model: str) -> ModelRecord | None:
    """None for a base, and for a name that nobody knows."""
    if context.is_base(model) or context.bases.find(model) is not None:
        return None
    try:
        return context.stores.catalog.resolve(context.project, model)
    except NotFound:
        return None


def _adapter(context: ProjectContext, version: ModelRecord) -> dict[str, object]:
    job = context.stores.jobs.get(version.job_id) if version.job_id and version.method == Method.LORA else None
    if job is None:
        return {}
    adapter = JobRequest.model_validate(job.request).distillation.adapter
    return {field: getattr(adapter, field) for field in SHAPE}


def _shown(value: object) -> str:
    return value.value if isinstance(value, Method) else str(value)
