"""/v1/labels"""

from typing import Any

from fastapi import APIRouter

from services.api.deps import Context, Project, needs
from services.api.features.labels import service as labels
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.keys import Scope
from shared.contracts.labels import LabelObject, LabelsAdded, LabelsRequest
from shared.contracts.views import Deleted, Listed

router = APIRouter(prefix="/v1/labels", tags=["labels"], dependencies=[needs(Scope.JOBS)])


@router.post("", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def add_labels(context: Context, project: Project, body: LabelsRequest) -> LabelsAdded:
    return labels.add(context, project, body)


@router.get("", response_model=Listed[LabelObject])
def list_labels(
    context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    return listed(*labels.page(context, project, after, limit))


@router.delete("/{label_id}", response_model=Deleted)
def delete_label(context: Context, project: Project, label_id: Id) -> dict[str, Any]:
    labels.delete(context, project, label_id)
    return {"id": label_id, "object": "label", "deleted": True}
