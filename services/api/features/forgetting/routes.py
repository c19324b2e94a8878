"""/v1/forget"""

from fastapi import Depends

from services.api.deps import Context, needs
from services.api.features.chat.recorder import settled
from services.api.features.forgetting import service as forgetting
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.forgetting import ForgetRequest, ForgetResult
from shared.contracts.keys import Scope

router = Router(prefix="/v1/forget", tags=["stored_chats"], dependencies=[needs(Scope.FILES)])


@router.post("", dependencies=[Depends(settled), once], responses=may_answer(404, 409, 422))
def forget(context: Context, body: ForgetRequest) -> ForgetResult:
    """Delete the stored chats and the feedback of a user, or the named chats, and list what was made from them: datasets that hold them
    as rows, versions that were trained on these rows, and how to train again without them."""
    return forgetting.forget(context, body)
