"""Who may ask: an API key, the internal token, or, where no key is configured, anyone on this machine."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from services.api.clients import EngineClient
from services.api.service.context import ApiContext
from services.api.settings import key_hash
from shared.contracts.errors import UserError
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.http import bearer, is_loopback, same_secret


class NotAuthenticated(UserError):
    status = 401
    code = "invalid_api_key"


class Forbidden(UserError):
    status = 403
    code = "permission_denied"


def api_context(request: Request) -> ApiContext:
    return request.app.state.context


def engine_client(request: Request) -> EngineClient:
    return request.app.state.engine


def project_of(request: Request) -> str:
    """The project that the caller acts in. Raises NotAuthenticated or Forbidden."""
    context = api_context(request)
    keys = context.settings.keys
    if not keys:
        _only_this_machine(request)
        return DEFAULT_PROJECT
    given = bearer(request)
    digest = key_hash(given)
    known = [same_secret(digest, key) for key in keys]  # all of them, so that the time tells nothing
    if any(known) or same_secret(given, context.platform.internal_token.get_secret_value()):
        return DEFAULT_PROJECT
    raise NotAuthenticated("no valid API key; send `Authorization: Bearer <one of METEOR_API_KEYS>`")


def _only_this_machine(request: Request) -> None:
    """Without keys a web page must not reach the API through its visitor's browser (rebound names, foreign origins)."""
    for header, host in (
        ("Host", urlsplit(f"//{request.headers.get('host', '')}").hostname),
        ("Origin", urlsplit(request.headers.get("origin", "http://localhost")).hostname),
    ):
        if not is_loopback(host or ""):
            raise Forbidden(
                f"without METEOR_API_KEYS only this machine may ask, and {header} names another; set keys first"
            )


Context = Annotated[ApiContext, Depends(api_context)]
Engine = Annotated[EngineClient, Depends(engine_client)]
Project = Annotated[str, Depends(project_of)]
