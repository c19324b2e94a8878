"""/v1/projects: the operator creates them and sets their limits, a project's admin reads its own."""

from fastapi import Response

from services.api.context import ProjectContext
from services.api.deps import Context, Forbidden, Id, Page, needs
from services.api.features.projects import service as projects
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import ProjectChange, ProjectObject, ProjectRequest, Scope
from shared.contracts.views import Listed

router = Router(prefix="/v1/projects", tags=["projects"], dependencies=[needs(Scope.ADMIN)])


def _require_operator(context: ProjectContext) -> None:
    if not context.caller.operator:
        raise Forbidden("only the operator manages projects and their limits: send one of METEOR_API_KEYS")


@router.post("", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_project(context: Context, body: ProjectRequest, response: Response) -> ProjectObject:
    _require_operator(context)
    project = projects.create(context, body)
    response.headers["location"] = f"/v1/projects/{project.id}"
    return project


@router.get("")
def list_projects(context: Context, paging: Page) -> Listed[ProjectObject]:
    return projects.page(context, paging)


@router.get("/{project_id}")
def get_project(context: Context, project_id: Id) -> ProjectObject:
    return projects.get(context, project_id)


@router.patch("/{project_id}", dependencies=[once], responses=may_answer(409, 422))
def change_project(context: Context, project_id: Id, body: ProjectChange) -> ProjectObject:
    """Name and limits."""
    projects.get(context, project_id)  # another project is reported as missing, not as forbidden
    _require_operator(context)
    return projects.change(context, project_id, body)
