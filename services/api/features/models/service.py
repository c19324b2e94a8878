"""The models that can be called: the bases, the served aliases, and every version."""

from services.api.context import ProjectContext
from services.api.paging import listed
from shared.artifacts.capabilities import published
from shared.contracts.capabilities import Capabilities
from shared.contracts.errors import NotFound, UserError
from shared.contracts.views import Listed, ModelDeleted, ModelObject
from shared.jobs.records import ModelRecord


class NotDeletable(UserError):
    status = 403
    code = "model_not_deletable"


def page(context: ProjectContext) -> Listed[ModelObject]:
    """The bases first, then versions newest first, an alias right before the version that it serves."""
    models = [_base(base.name) for base in context.students]
    for row, served in context.stores.catalog.models(context.project):
        if served:
            models.append(_version(row, row.alias))
        models.append(_version(row, f"{row.alias}@{row.version}"))
    return listed(models)


def get(context: ProjectContext, name: str) -> ModelObject:
    if context.is_base(name):
        return _base(name)
    return _version(context.stores.catalog.resolve(context.project, name), name)


def capabilities(context: ProjectContext, name: str) -> Capabilities:
    """What was found of a base. Raises NotFound for another model, and before the trainer has tried it."""
    if not context.is_base(name):
        raise NotFound(f"{name!r} is no base model; its `parent` is one", param="model", code="model_not_found")
    result = published(context.platform.data, name)
    if result is None:
        raise NotFound(f"{name!r} was not tried yet; the trainer does so after its start", code="not_tried")
    return result


def promote(context: ProjectContext, name: str) -> ModelObject:
    """Serve one version under its alias, whatever its state. Raises UserError for a name without a version."""
    if "@" not in name:
        raise UserError(f"name the version to serve, as in {name}@1", param="model", code="version_missing")
    row = context.stores.catalog.resolve(context.project, name)
    context.stores.catalog.serve(context.project, row)
    context.model_router.forget()
    return _version(row, row.alias)


def roll_back(context: ProjectContext, alias: str) -> ModelObject:
    """Serve again the version that was promoted before the current one; `version` of the response names it."""
    row = context.stores.catalog.roll_back(context.project, alias)
    context.model_router.forget()
    return _version(row, alias)


def delete(context: ProjectContext, name: str) -> ModelDeleted:
    """A version (alias@version, or its id), or an alias with all its versions. Raises NotFound, Conflict, NotDeletable."""
    if context.is_base(name):
        raise NotDeletable(
            f"{name!r} is a base model of this deployment; METEOR_STUDENT_MODEL and METEOR_STUDENTS name the bases",
            param="model",
        )
    catalog = context.stores.catalog
    if "@" in name or not catalog.has_versions(context.project, name):
        catalog.delete_version(context.project, catalog.resolve(context.project, name))
    else:
        catalog.delete_alias(context.project, name)
    context.model_router.forget()
    return ModelDeleted(id=name)


def _base(name: str) -> ModelObject:
    return ModelObject(id=name, created=0, owned_by="meteor")  # its age is unknown


def _version(model: ModelRecord, name: str) -> ModelObject:
    return ModelObject(
        id=name,
        created=int(model.created_at),
        owned_by=model.project_id,
        parent=model.base,
        version=model.version,
        continues=model.continues,
        job=model.job_id,
        state=model.state,
        generation=model.generation,
    )
