"""/v1/labels"""

from services.api.deps import Context, Id, Page, needs
from services.api.features.labels import service as labels
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import Scope
from shared.contracts.labels import LabelObject, LabelsAdded, LabelsRequest
from shared.contracts.views import Deleted, Listed

router = Router(prefix="/v1/labels", tags=["labels"], dependencies=[needs(Scope.JOBS)])


@router.post("", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def add_labels(context: Context, body: LabelsRequest) -> LabelsAdded:
    return labels.add(context, body)


@router.get("")
def list_labels(context: Context, paging: Page) -> Listed[LabelObject]:
    return labels.page(context, paging)


@router.delete("/{label_id}")
def delete_label(context: Context, label_id: Id) -> Deleted:
    context.stores.labels.delete(context.project, label_id)
    return Deleted(id=label_id, object="label")
