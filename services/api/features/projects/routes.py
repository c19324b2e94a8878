"""/v1/projects: the operator makes them and sets their limits, a project's admin reads its own."""

from typing import Any

from fastapi import APIRouter, Response

from services.api.deps import Asking, Caller, Context, Forbidden, needs
from services.api.features.projects import service as projects
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.keys import ProjectChange, ProjectObject, ProjectRequest, Scope
from shared.contracts.views import Listed

router = APIRouter(prefix="/v1/projects", tags=["projects"], dependencies=[needs(Scope.ADMIN)])


def _only_the_operator(caller: Caller) -> None:
    if not caller.operator:
        raise Forbidden("projects and their limits are the operator's: ask with one of METEOR_API_KEYS")


@router.post("", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_project(context: Context, caller: Asking, body: ProjectRequest, response: Response) -> ProjectObject:
    _only_the_operator(caller)
    made = projects.create(context, body)
    response.headers["location"] = f"/v1/projects/{made.id}"
    return made


@router.get("", response_model=Listed[ProjectObject])
def list_projects(
    context: Context, caller: Asking, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    return listed(*projects.page(context, caller.view, after, limit))


@router.get("/{project_id}")
def get_project(context: Context, caller: Asking, project_id: Id) -> ProjectObject:
    return projects.get(context, caller.view, project_id)


@router.patch("/{project_id}", dependencies=[once], responses=may_answer(409, 422))
def change_project(context: Context, caller: Asking, project_id: Id, body: ProjectChange) -> ProjectObject:
    """Name and limits."""
    projects.get(context, caller.view, project_id)  # another one's does not exist, before it is forbidden
    _only_the_operator(caller)
    return projects.change(context, project_id, body)
