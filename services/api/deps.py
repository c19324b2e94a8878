"""Who may ask, and for what: a key of the database, one of the operator's, the internal token, or, where no key was ever made,
anyone on this machine."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from services.api.context import ApiContext
from services.api.engine_client import EngineClient
from services.api.keyring import NotAuthenticated
from services.api.settings import key_hash
from shared.contracts.errors import UserError
from shared.contracts.keys import Scope
from shared.jobs.records import ApiKeyRecord
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.http import bearer, is_loopback, same_secret


class Forbidden(UserError):
    status = 403
    code = "permission_denied"


@dataclass(frozen=True)
class Caller:
    """name: a key's id; or operator (METEOR_API_KEYS), internal (the token between services), local (no key was ever made).

    operator: acts in the default project, and may look after all of them.
    """

    project: str
    name: str
    scopes: frozenset[Scope]
    operator: bool = False

    @property
    def view(self) -> str | None:
        """The project whose keys and audit log the caller sees; None: every one."""
        return None if self.operator else self.project

    @property
    def key_id(self) -> str | None:
        """The key of the database that asks."""
        return None if self.operator else self.name


def _operator(name: str) -> Caller:
    return Caller(DEFAULT_PROJECT, name, frozenset(Scope), operator=True)


OPERATOR, INTERNAL, LOCAL = _operator("operator"), _operator("internal"), _operator("local")


async def api_context(request: Request) -> ApiContext:
    return request.app.state.context


async def engine_client(request: Request) -> EngineClient:
    return request.app.state.engine


async def caller_of(request: Request) -> Caller:
    """Noted on the request too, for what runs around the handlers. Raises NotAuthenticated, Forbidden or TooManyRequests."""
    context = await api_context(request)
    request.state.caller = caller = await _caller(request, context)
    await context.request_limits.check(caller.project)
    return caller


async def _caller(request: Request, context: ApiContext) -> Caller:
    given = bearer(request)
    digest = key_hash(given)
    known = [same_secret(digest, key) for key in context.settings.keys]  # all of them, so that the time tells nothing
    if any(known):
        return OPERATOR
    if same_secret(given, context.platform.internal_token.get_secret_value()):
        return INTERNAL
    row = context.keyring.known(given) or await run_in_threadpool(context.keyring.look_up, given)
    if row is not None:
        return _of_key(row)
    if context.settings.keys or await _any_key_was_made(context):
        raise NotAuthenticated("no valid API key; send `Authorization: Bearer <key>` (`meteor keys create` makes one)")
    _only_this_machine(request)
    return LOCAL


def _of_key(row: ApiKeyRecord) -> Caller:
    return Caller(row.project_id, row.id, frozenset(map(Scope, row.scopes)))


async def _any_key_was_made(context: ApiContext) -> bool:
    known = context.keyring.knows_of_keys()
    return await run_in_threadpool(context.keyring.has_keys) if known is None else known


def _only_this_machine(request: Request) -> None:
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
    """/metrics counts what all projects do, by their aliases. Raises NotAuthenticated, Forbidden."""
    context = await api_context(request)
    if same_secret(bearer(request), context.settings.metrics_token.get_secret_value()):
        return
    if not (await _caller(request, context)).operator:
        raise Forbidden("metrics are of all projects: send METEOR_API_METRICS_TOKEN, or a key of METEOR_API_KEYS")


async def project_of(caller: Annotated[Caller, Depends(caller_of)]) -> str:
    """The project that the caller acts in: what belongs to another one does not exist for it."""
    return caller.project


async def key_of(caller: Annotated[Caller, Depends(caller_of)]) -> str | None:
    return caller.key_id


class Needs:
    """Dependency of a router or a route: the caller's key must have one of these scopes.

    A route of /v1 without it fails a test. `router = APIRouter(..., dependencies=[needs(Scope.JOBS)])`
    """

    def __init__(self, *scopes: Scope):
        self.scopes = scopes

    async def __call__(self, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> None:
        request.state.needed = self.scopes  # for the audit log
        if not caller.scopes.intersection(self.scopes):
            wanted = " or ".join(repr(scope.value) for scope in self.scopes)
            raise Forbidden(f"this API key lacks the scope {wanted}", code="missing_scope")


def needs(*scopes: Scope):
    return Depends(Needs(*scopes))


Context = Annotated[ApiContext, Depends(api_context)]
Engine = Annotated[EngineClient, Depends(engine_client)]
Asking = Annotated[Caller, Depends(caller_of)]
Project = Annotated[str, Depends(project_of)]
KeyId = Annotated[str | None, Depends(key_of)]  # the key that asks, unless it is an operator
