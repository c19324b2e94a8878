"""/v1/models"""

from fastapi import Response

from services.api.deps import Context, Id, needs
from services.api.features.exports import service as exports
from services.api.features.models import service as models
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.capabilities import Capabilities
from shared.contracts.exports import ExportObject, ExportWish
from shared.contracts.keys import Scope
from shared.contracts.views import Listed, ModelDeleted, ModelObject

router = Router(prefix="/v1/models", tags=["models"])
READ = [needs(Scope.CHAT, Scope.JOBS)]
CHANGE = [needs(Scope.JOBS)]


@router.get("", dependencies=READ)
def list_models(context: Context) -> Listed[ModelObject]:
    return models.page(context)


@router.post("/{model}/promote", dependencies=[*CHANGE, once], responses=may_answer(409, 422))
def promote(context: Context, model: Id) -> ModelObject:
    return models.promote(context, model)


@router.post("/{model}/rollback", dependencies=[*CHANGE, once], responses=may_answer(409, 422))
def roll_back(context: Context, model: Id) -> ModelObject:
    return models.roll_back(context, model)


@router.post("/{model}/export", dependencies=[*CHANGE, once], status_code=201, responses=may_answer(400, 409, 422))
def export_model(context: Context, model: Id, body: ExportWish, response: Response) -> ExportObject:
    """A job that makes files of a version, to be loaded elsewhere. model: alias, alias@version, or a version's id."""
    export = exports.create(context, model, body)
    response.headers["location"] = f"/v1/exports/{export.id}"
    return export


@router.get("/{model:path}/capabilities", dependencies=READ)
def get_capabilities(context: Context, model: Id) -> Capabilities:
    """What the capability probe found of a base: what it can do here, and why not. model: a base."""
    return models.capabilities(context, model)


@router.get("/{model:path}", dependencies=READ)  # the name of a base may hold a slash, as on a hub
def get_model(context: Context, model: Id) -> ModelObject:
    return models.get(context, model)


@router.delete("/{model}", dependencies=CHANGE, responses=may_answer(409))
def delete_model(context: Context, model: Id) -> ModelDeleted:
    """Delete a version, or an alias with all its versions. Weights are removed once nothing needs them. The number of a version is not
    used again."""
    return models.delete(context, model)
