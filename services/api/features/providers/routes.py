"""/v1/providers: the strong models that the gateway knows, and what each can do. The operator's, for a test costs money."""

from services.api.context import ProjectContext
from services.api.deps import Context, Forbidden, Id, needs
from services.api.features.providers import service as providers
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import Scope
from shared.contracts.providers import ProviderObject, ProviderReport
from shared.contracts.views import Listed

router = Router(prefix="/v1/providers", tags=["providers"], dependencies=[needs(Scope.ADMIN)])


def _require_operator(context: ProjectContext) -> None:
    if not context.caller.operator:
        raise Forbidden("only the operator sees and tests providers: send one of METEOR_API_KEYS")


@router.get("", responses=may_answer(503))
def list_providers(context: Context) -> Listed[ProviderObject]:
    """All configured strong models, with what the gateway has learned of each."""
    _require_operator(context)
    return providers.page(context)


@router.post("/{name}/test", dependencies=[once], responses=may_answer(404, 409, 422, 503))
def test_provider(context: Context, name: Id) -> ProviderReport:
    """Ask a provider a few cheap questions, through the gateway, and report what it can do. The calls are on the ledger of the
    default project. If the provider does not answer, this request still succeeds: `answers` is false, and `error` says why."""
    _require_operator(context)
    return providers.test(context, name)


@router.delete("/{name}/learned", responses=may_answer(404, 503))
def forget_learned(context: Context, name: Id) -> ProviderObject:
    """Delete what was learned about a provider. The next calls find it out again."""
    _require_operator(context)
    return providers.forget(context, name)
