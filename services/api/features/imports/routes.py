"""/v1/imports"""

from fastapi import Depends, Response

from services.api.deps import Context, Id, needs
from services.api.features.chat.recorder import settled
from services.api.features.imports import service as imports
from services.api.features.jobs.lifecycle_routes import add_control_routes, add_read_routes
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.imports import ImportChange, ImportEstimate, ImportObject, ImportRequest
from shared.contracts.keys import Scope

router = Router(tags=["imports"], dependencies=[needs(Scope.JOBS)])
PREFIX = "/v1/imports"


@router.post(PREFIX, status_code=201, dependencies=[Depends(settled), once], responses=may_answer(409, 422))
def create_import(context: Context, body: ImportRequest, response: Response) -> ImportObject:
    """Make a dataset from another source. When the import has succeeded, `result.file` is the new file."""
    job = imports.create(context, body)
    response.headers["location"] = f"{PREFIX}/{job.id}"
    return job


@router.post(PREFIX + "/estimate", responses=may_answer(422))
def estimate_import(context: Context, body: ImportRequest) -> ImportEstimate:
    """The calls to strong models that this import would make, and their cost. No import is made, and no model is asked."""
    return imports.estimate(context, body)


add_read_routes(router, imports.lifecycle, ImportObject, PREFIX)


@router.patch(PREFIX + "/{import_id}", dependencies=[once], responses=may_answer(409, 422))
def change_import(context: Context, import_id: Id, body: ImportChange) -> ImportObject:
    """Change the budget or the coverage map. An import that waits for its budget continues."""
    return imports.change(context, import_id, body)


add_control_routes(router, imports.lifecycle, ImportObject, PREFIX)
