"""What every HTTP service of ours has: OpenAI's error shape, request ids, health routes, metrics, the internal token."""

import hmac
import ipaddress
import re
import time
from collections.abc import Sequence
from typing import Any

import structlog
import uuid_utils
from fastapi import FastAPI, Request, params
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException

from shared.contracts.errors import TYPE_OF_STATUS, ErrorBody, FatalError, MeteorError
from shared.contracts.faults import CODES, problems_in
from shared.contracts.problems import Problem, body_of
from shared.platform import tracing
from shared.platform.log import get_logger

log = get_logger(__name__)
REQUESTS = Counter("meteor_http_requests_total", "HTTP requests by route and status", ["service", "route", "status"])
SECONDS = Histogram(
    "meteor_http_seconds",
    "From a request to the start of its answer",
    ["service", "route"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
# Errors of a body as a whole -> what it is instead of an object; empty: what Python calls it.
NO_OBJECT = {"missing": "empty", "model_attributes_type": "", "model_type": "", "dict_type": ""}
UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
RETRY_AFTER_S = 2  # where an error does not say
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def error_response(body: ErrorBody, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": body.model_dump()}, status_code=status, headers=headers)


async def _on_own_error(_: Request, error: MeteorError) -> JSONResponse:
    headers = {}
    if error.should_retry is not None:
        headers["x-should-retry"] = str(error.should_retry).lower()
    if error.status in (429, 503) or error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s or RETRY_AFTER_S)
    if isinstance(error, FatalError):
        log.error("request failed", error=str(error))
    return error_response(error.body(), error.status, headers)


async def _on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    """All that is wrong, in one answer."""
    return error_response(body_of(_problems(request, error), 400), 400)


def _problems(request: Request, error: RequestValidationError) -> list[Problem]:
    first, *_ = faults = list(error.errors())
    if first["loc"] == ("body",) and isinstance(error.body, bytes):  # left unparsed for its content type
        sent = request.headers.get("content-type", "")[:100] or "none"
        remedy = "send Content-Type: application/json"
        return [
            Problem(
                code=CODES.get(first["type"], "invalid_value"),
                message=f"the body is not read: its content type is {sent}",
                remedy=remedy,
            )
        ]
    if first["loc"] == ("body",) and first["type"] in NO_OBJECT:
        message = f"the body must be a JSON object, not {NO_OBJECT[first['type']] or type(error.body).__name__}"
        return [Problem(code=CODES.get(first["type"], "invalid_value"), message=message)]
    if first["type"] == "json_invalid":  # its location is a position in the text, not a field
        message = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        return [Problem(code="invalid_json", message=message)]
    in_body = [fault | {"loc": fault["loc"][1:]} for fault in faults if fault["loc"][0] == "body"]
    beside = [fault | {"loc": fault["loc"][1:]} for fault in faults if fault["loc"][0] != "body"]
    places = dict.fromkeys(part for fault in beside for part in fault["loc"])  # of the path, the query or the headers
    return problems_in(beside, None, places) + problems_in(in_body, _kind_of_body(request), error.body)


def _kind_of_body(request: Request) -> Any:
    """The model that the route reads its body as; None where it reads none."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return field and field.field_info.annotation


async def _on_http_error(_: Request, error: HTTPException) -> JSONResponse:
    kind = TYPE_OF_STATUS.get(error.status_code, "server_error")
    code = "not_found" if error.status_code == 404 else "invalid_request"
    body = ErrorBody(message=str(error.detail), type=kind, code=code)
    return error_response(body, error.status_code, dict(error.headers or {}))


async def _on_surprise(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", error=repr(error), exc_info=error)
    return error_response(
        ErrorBody(
            message="internal error; the server's log has the details", type="server_error", code="internal_error"
        ),
        500,
        {"x-request-id": request.state.request_id},  # this answer is made outside RequestScope
    )


class RequestScope:
    """Pure ASGI middleware (streams pass untouched): request id in and out, counters, log context."""

    def __init__(self, app, service: str):
        self.app = app
        self.service = service

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req-{uuid_utils.uuid7().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.monotonic()

        async def send_marked(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                route = getattr(scope.get("route"), "path", "unmatched")
                REQUESTS.labels(self.service, route, str(message["status"])).inc()
                SECONDS.labels(self.service, route).observe(time.monotonic() - began)
                _tell(span, scope["method"], route, message["status"])
            await send(message)

        with _span_of(scope) as span:
            await self.app(scope, receive, send_marked)


def _span_of(scope) -> Any:
    """The span of a request, below the one that its traceparent names. Its address and body are not told."""
    if not tracing.is_on() or scope["path"] in UNTRACED:
        return tracing.NO_SPAN
    carried = dict(scope["headers"]).get(tracing.TRACEPARENT.encode(), b"").decode("latin-1")
    return tracing.span(scope["method"], "server", tracing.parent_of(carried), http__request__method=scope["method"])


def _tell(span: tracing.Span, method: str, route: str, status: int) -> None:
    span.rename(f"{method} {route}")
    span.set(http__route=route, http__response__status_code=status)
    if status >= 500:
        span.failed(str(status))


def new_app(service: str, title: str, may_scrape: Sequence[params.Depends] = (), **options) -> FastAPI:
    """A FastAPI application with our error handlers, request ids and GET /metrics. may_scrape: what that route depends on."""
    app = FastAPI(title=title, **options)
    app.add_middleware(RequestScope, service=service)
    for error, handler in (
        (MeteorError, _on_own_error),
        (RequestValidationError, _on_validation_error),
        (HTTPException, _on_http_error),
        (Exception, _on_surprise),
    ):
        app.exception_handler(error)(handler)

    @app.get("/metrics", include_in_schema=False, dependencies=may_scrape)
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


def bearer(request: Request) -> str:
    """The token of `Authorization: Bearer ...`, or an empty string."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def same_secret(given: str, expected: str) -> bool:
    """Comparison in constant time; an empty expectation matches nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
