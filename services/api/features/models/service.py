"""The models that can be asked: the bases, the aliases that are served, and every version."""

from services.api.context import ApiContext
from shared.contracts.errors import UserError
from shared.contracts.views import ModelDeleted, ModelObject
from shared.jobs.records import ModelRecord


class NotDeletable(UserError):
    status = 403
    code = "model_not_deletable"


def listed(context: ApiContext, project: str) -> list[ModelObject]:
    """The bases first, then versions newest first, an alias right before the version it stands for."""
    found = [_base(base.name) for base in context.students]
    for row, served in context.stores.catalog.models(project):
        if served:
            found.append(_tuned(row, row.alias))
        found.append(_tuned(row, f"{row.alias}@{row.version}"))
    return found


def get(context: ApiContext, project: str, name: str) -> ModelObject:
    if _is_base(context, name):
        return _base(name)
    return _tuned(context.stores.catalog.resolve(project, name), name)


def promote(context: ApiContext, project: str, name: str) -> ModelObject:
    """Serve one version under its alias, whatever its state. Raises UserError for a name without a version."""
    if "@" not in name:
        raise UserError(f"name the version to serve, as in {name}@1", param="model", code="version_missing")
    row = context.stores.catalog.resolve(project, name)
    context.stores.catalog.serve(project, row)
    return _tuned(row, row.alias)


def roll_back(context: ApiContext, project: str, alias: str) -> ModelObject:
    """Serve the promoted version before the present one again; the answer's `version` says which."""
    return _tuned(context.stores.catalog.roll_back(project, alias), alias)


def delete(context: ApiContext, project: str, name: str) -> ModelDeleted:
    """A version (alias@version, or its id), or an alias with all its versions. Raises NotFound, Conflict, NotDeletable."""
    if _is_base(context, name):
        raise NotDeletable(
            f"{name!r} is a base that this system was set up with; METEOR_STUDENT_MODEL and METEOR_STUDENTS name them",
            param="model",
        )
    catalog = context.stores.catalog
    if "@" in name or not catalog.has_versions(project, name):
        catalog.delete_version(project, catalog.resolve(project, name))
    else:
        catalog.delete_alias(project, name)
    return ModelDeleted(id=name)


def _is_base(context: ApiContext, name: str) -> bool:
    return any(name == base.name for base in context.students)


def _base(name: str) -> ModelObject:
    return ModelObject(id=name, created=0, owned_by="meteor")  # its age is not known


def _tuned(row: ModelRecord, name: str) -> ModelObject:
    return ModelObject(
        id=name, created=int(row.created_at), owned_by=row.project_id, parent=row.base, version=row.version
    )
