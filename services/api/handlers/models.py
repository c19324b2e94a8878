"""/v1/models"""

from typing import Any

from fastapi import APIRouter

from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import listed
from services.api.service import models
from shared.contracts.jobs import ModelObject
from shared.contracts.keys import Scope

router = APIRouter(prefix="/v1/models", tags=["models"])
READ = [needs(Scope.CHAT, Scope.JOBS)]
STEER = [needs(Scope.JOBS)]


@router.get("", dependencies=READ)
def list_models(context: Context, project: Project) -> dict[str, Any]:
    return listed(models.listed(context, project))


@router.post("/{model}/promote", dependencies=STEER)
def promote(context: Context, project: Project, model: str) -> ModelObject:
    return models.promote(context, project, model)


@router.post("/{model}/rollback", dependencies=STEER)
def roll_back(context: Context, project: Project, model: str) -> ModelObject:
    return models.roll_back(context, project, model)


@router.get("/{model:path}", dependencies=READ)  # a base may be named as on a hub, with a slash
def get_model(context: Context, project: Project, model: str) -> ModelObject:
    return models.get(context, project, model)
