"""/v1/system: the operator's, for it covers all projects."""

from services.api.deps import Context, Forbidden, needs
from services.api.features.system import service as system
from services.api.router import Router
from shared.contracts.keys import Scope
from shared.contracts.system import SystemObject

router = Router(prefix="/v1/system", tags=["system"], dependencies=[needs(Scope.ADMIN)])


@router.get("")
def get_system(context: Context) -> SystemObject:
    """The processes, the queues with their steps, the jobs by status, and how the calls of the last hour to strong models ended."""
    if not context.caller.operator:
        raise Forbidden("only the operator sees the system: send one of METEOR_API_KEYS")
    return system.show(context)
