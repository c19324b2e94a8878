"""/v1/models"""

from typing import Any

from fastapi import APIRouter, Request, Response

from services.api.deps import Context, Project, needs
from services.api.features.exports import service as exports
from services.api.features.models import service as models
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import Id, listed
from shared.contracts.exports import ExportObject, ExportWish
from shared.contracts.keys import Scope
from shared.contracts.views import Listed, ModelDeleted, ModelObject

router = APIRouter(prefix="/v1/models", tags=["models"])
READ = [needs(Scope.CHAT, Scope.JOBS)]
STEER = [needs(Scope.JOBS)]


@router.get("", dependencies=READ, response_model=Listed[ModelObject])
def list_models(context: Context, project: Project) -> dict[str, Any]:
    return listed(models.listed(context, project))


@router.post("/{model}/promote", dependencies=[*STEER, once], responses=may_answer(409, 422))
def promote(request: Request, context: Context, project: Project, model: Id) -> ModelObject:
    promoted = models.promote(context, project, model)
    request.app.state.signpost.forget()
    return promoted


@router.post("/{model}/rollback", dependencies=[*STEER, once], responses=may_answer(409, 422))
def roll_back(request: Request, context: Context, project: Project, model: Id) -> ModelObject:
    served = models.roll_back(context, project, model)
    request.app.state.signpost.forget()
    return served


@router.post("/{model}/export", dependencies=[*STEER, once], status_code=201, responses=may_answer(400, 409, 422))
def export_model(context: Context, project: Project, model: Id, body: ExportWish, response: Response) -> ExportObject:
    """A job that makes files of a version, to be loaded elsewhere. model: alias, alias@version, or a version's id."""
    made = exports.create(context, project, model, body)
    response.headers["location"] = f"/v1/exports/{made.id}"
    return made


@router.get("/{model:path}", dependencies=READ)  # a base may be named as on a hub, with a slash
def get_model(context: Context, project: Project, model: Id) -> ModelObject:
    return models.get(context, project, model)


@router.delete("/{model:path}", dependencies=STEER, responses=may_answer(409))
def delete_model(request: Request, context: Context, project: Project, model: Id) -> ModelDeleted:
    """A version, or an alias with all its versions. Its weights go once nothing needs them; the number of a version is not
    given again."""
    deleted = models.delete(context, project, model)
    request.app.state.signpost.forget()
    return deleted
