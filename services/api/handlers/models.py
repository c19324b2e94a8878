"""/v1/models"""

from typing import Any

from fastapi import APIRouter

from services.api.document import may_answer
from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import Id, listed
from services.api.service import models
from shared.contracts.jobs import ModelObject
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = APIRouter(prefix="/v1/models", tags=["models"])
READ = [needs(Scope.CHAT, Scope.JOBS)]
STEER = [needs(Scope.JOBS)]


@router.get("", dependencies=READ, response_model=Listed[ModelObject])
def list_models(context: Context, project: Project) -> dict[str, Any]:
    return listed(models.listed(context, project))


@router.post("/{model}/promote", dependencies=STEER, responses=may_answer(409))
def promote(context: Context, project: Project, model: Id) -> ModelObject:
    return models.promote(context, project, model)


@router.post("/{model}/rollback", dependencies=STEER, responses=may_answer(409))
def roll_back(context: Context, project: Project, model: Id) -> ModelObject:
    return models.roll_back(context, project, model)


@router.get("/{model:path}", dependencies=READ)  # a base may be named as on a hub, with a slash
def get_model(context: Context, project: Project, model: Id) -> ModelObject:
    return models.get(context, project, model)
