"""FastAPI dependencies: the caller and the project it works in, the scopes a route needs, ids and paging.

A caller sends a key of the database, one of the operator's keys or the internal token. Where no key exists, callers on this
machine need none.
"""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from services.api.context import ApiContext, Caller, ProjectContext
from services.api.engine_client import EngineClient
from services.api.keyring import NotAuthenticated
from services.api.known_query import refuse_unknown
from services.api.paging import Paging
from services.api.settings import key_hash
from shared.contracts.errors import UserError
from shared.contracts.keys import Scope
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.http import bearer, is_loopback, same_secret

ID_CHARACTERS = r"^[^\x00-\x1f\x7f]+$"  # printable, so that it can be looked up and logged
LONGEST_ID = 200


class Forbidden(UserError):
    status = 403
    code = "permission_denied"


OPERATOR, INTERNAL, LOCAL = (Caller(DEFAULT_PROJECT, name, operator=True) for name in ("operator", "internal", "local"))


OPENAI_NAMES = "/v1/fine_tuning/"


async def api_context(request: Request) -> ApiContext:
    return request.app.state.context


async def engine_client(request: Request) -> EngineClient:
    return request.app.state.engine


async def project_context(request: Request) -> ProjectContext:
    """Also stores the caller on the request, for the middleware. Raises NotAuthenticated, Forbidden or TooManyRequests."""
    context = await api_context(request)
    request.state.caller = caller = await _caller(request, context)
    await context.request_limits.check(caller.project)
    return context.of(caller, openai_names=request.url.path.startswith(OPENAI_NAMES))


async def _caller(request: Request, context: ApiContext) -> Caller:
    given = bearer(request)
    digest = key_hash(given)
    matches = [same_secret(digest, key) for key in context.settings.keys]  # all of them, so that the time tells nothing
    if any(matches):
        return OPERATOR
    if same_secret(given, context.platform.internal_token.get_secret_value()):
        return INTERNAL
    row = context.keyring.cached(given) or await run_in_threadpool(context.keyring.look_up, given)
    if row is not None:
        return Caller(row.project_id, row.id, frozenset(map(Scope, row.scopes)))
    if context.settings.keys or await _any_key_exists(context):
        raise NotAuthenticated("no valid API key; send `Authorization: Bearer <key>` (`meteor keys create` makes one)")
    _require_this_machine(request)
    return LOCAL


async def _any_key_exists(context: ApiContext) -> bool:
    cached = context.keyring.cached_any()
    return await run_in_threadpool(context.keyring.any) if cached is None else cached


def _require_this_machine(request: Request) -> None:
    """Without keys a web page must not reach the API through its visitor's browser (rebound names, foreign origins)."""
    for header, host in (
        ("Host", urlsplit(f"//{request.headers.get('host', '')}").hostname),
        ("Origin", urlsplit(request.headers.get("origin", "http://localhost")).hostname),
    ):
        if not is_loopback(host or ""):
            raise Forbidden(
                f"without API keys only this machine may ask, and {header} names another; `meteor keys create` makes a key"
            )


async def may_scrape(request: Request) -> None:
    """/metrics counts requests of all projects, by alias. Raises NotAuthenticated, Forbidden."""
    context = await api_context(request)
    if same_secret(bearer(request), context.settings.metrics_token.get_secret_value()):
        return
    if not (await _caller(request, context)).operator:
        raise Forbidden("metrics cover all projects: send METEOR_API_METRICS_TOKEN, or a key of METEOR_API_KEYS")


async def paging(
    after: Annotated[str | None, Query(max_length=200)] = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Paging:
    return Paging(after, limit)


ServerContext = Annotated[ApiContext, Depends(api_context)]  # for routes without a key
Context = Annotated[ProjectContext, Depends(project_context)]
Engine = Annotated[EngineClient, Depends(engine_client)]
Page = Annotated[Paging, Depends(paging)]
Id = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, pattern=ID_CHARACTERS)]


class Needs:
    """Dependency of a router or a route: the caller's key must have one of these scopes.

    A route of /v1 without it fails a test. `router = APIRouter(..., dependencies=[needs(Scope.JOBS)])`
    """

    def __init__(self, *scopes: Scope):
        self.scopes = scopes

    async def __call__(self, request: Request, context: Context) -> None:
        request.state.needed = self.scopes  # for the audit log
        if not context.caller.scopes.intersection(self.scopes):
            wanted = " or ".join(repr(scope.value) for scope in self.scopes)
            raise Forbidden(f"this API key lacks the scope {wanted}", code="missing_scope")
        refuse_unknown(request)


def needs(*scopes: Scope):
    return Depends(Needs(*scopes))
