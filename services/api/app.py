"""The REST API: `python -m services.api`."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import REGISTRY
from sqlalchemy.exc import DataError, OperationalError
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from services.api.context import open_context
from services.api.deps import may_scrape
from services.api.engine_client import EngineClient
from services.api.features.audit import routes as audit
from services.api.features.canaries import routes as canaries
from services.api.features.chat import routes as chat
from services.api.features.chat.routing import Signpost
from services.api.features.chat.shadows import Shadows
from services.api.features.docs import routes as docs
from services.api.features.events import routes as events
from services.api.features.events.hub import EventHub
from services.api.features.experiments import routes as experiments
from services.api.features.exports import routes as exports
from services.api.features.files import routes as files
from services.api.features.health import routes as health
from services.api.features.imports import routes as imports
from services.api.features.jobs import routes as jobs
from services.api.features.keys import routes as keys
from services.api.features.labels import routes as labels
from services.api.features.live import routes as live
from services.api.features.models import routes as models
from services.api.features.projects import routes as projects
from services.api.features.results import routes as results
from services.api.features.webhooks import routes as webhooks
from services.api.features.webhooks.deliveries import Deliverer
from services.api.features.webhooks.safe_post import CheckedNetwork, Poster
from services.api.middleware.body_limits import BodyLimit
from services.api.middleware.idempotency import KeptAnswers, Replayed, on_replayed
from services.api.openapi_document import document, operation_id
from services.api.settings import ApiSettings, api_settings
from shared.contracts.errors import ErrorBody
from shared.jobs.schema import open_stores
from shared.platform.http import error_response, is_loopback, new_app
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import PlatformSettings, platform_settings

log = get_logger(__name__)
FILE_CONTENT = re.compile(r"/v1/(files|exports)/[^/]+/content(/|$)")
COMPRESSED_BYTES, COMPRESSION = 1024, 5  # a shorter answer fits into one packet anyway; zlib's level
SHUTDOWN_S = 5  # open event streams get so long when the process ends


class Compressed(GZipMiddleware):
    """JSON and pages of some length, for who asks for it. Streams go out as they come, and files as they lie: of them parts can be
    asked for, and their tag names these bytes."""

    def __init__(self, app):
        super().__init__(app, COMPRESSED_BYTES, COMPRESSION)

    async def __call__(self, scope, receive, send):
        file = scope["type"] == "http" and FILE_CONTENT.match(scope["path"])
        await (self.app if file else super().__call__)(scope, receive, send)


def _cors(settings: ApiSettings) -> list[Middleware]:
    """Web pages of other origins, where the operator names some. Their preflights are answered inside RequestScope, as all else."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after", "x-should-retry", "etag", "location", "idempotent-replayed"],
        )
    ]


async def _on_bad_value(_: Request, error: DataError) -> JSONResponse:
    """PostgreSQL refuses what SQLite takes: NUL bytes in names, numbers out of range."""
    message = "a value of the request cannot be looked up; names hold no control characters"
    return error_response(ErrorBody(message=message, type="invalid_request_error", code="invalid_value"), 400)


async def _on_database_away(_: Request, error: OperationalError) -> JSONResponse:
    log.error("database away", error=repr(error.orig))
    body = ErrorBody(message="the job database does not answer", type="server_error", code="database_unavailable")
    return error_response(body, 503, {"retry-after": "2"})


def create_app(settings: ApiSettings, platform: PlatformSettings) -> FastAPI:
    """The application; it opens its stores when it starts and closes the engine's connections when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.context = open_context(settings, platform)
        app.state.engine = EngineClient(settings, platform.internal_token.get_secret_value())
        app.state.signpost = Signpost(app.state.context)
        app.state.shadows = Shadows(app.state.engine, settings.shadows)
        collector = health.StoreCollector(app.state.context)
        REGISTRY.register(collector)
        app.state.hub = EventHub(app.state.context.stores, settings)
        app.state.poster = Poster(CheckedNetwork(settings.webhook_networks))
        deliverer = Deliverer(
            app.state.context.stores.webhooks,
            app.state.poster,
            app.state.context.webhook_key,
            platform.retention.total_seconds(),
        )
        loops = [asyncio.create_task(loop) for loop in (app.state.hub.run(), deliverer.run())]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            REGISTRY.unregister(collector)
            await app.state.shadows.aclose()
            await app.state.engine.aclose()
            app.state.context.providers.close()
            await app.state.context.request_limits.aclose()

    # FastAPI's own pages load their scripts from other people's servers; handlers.docs has one that needs none
    app = new_app(
        "api",
        "METEOR",
        may_scrape=[Depends(may_scrape)],
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead wherever the Host header says
        generate_unique_id_function=operation_id,
        middleware=_cors(settings),
    )
    app.openapi = lambda: document(app)
    app.add_middleware(BodyLimit, limit=settings.body_bytes, values=settings.body_values)
    app.add_middleware(KeptAnswers)
    app.add_middleware(audit.AuditTrail)
    app.add_middleware(Compressed)
    app.add_exception_handler(Replayed, on_replayed)
    app.add_exception_handler(DataError, _on_bad_value)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(OperationalError, _on_database_away)  # pyright: ignore[reportArgumentType]
    for module in (
        files,
        imports,
        jobs,
        results,
        events,
        experiments,
        exports,
        labels,
        canaries,
        models,
        chat,
        keys,
        projects,
        webhooks,
        audit,
        health,
        docs,
        live,
    ):
        app.include_router(module.router)
    return app


def refusal(settings: ApiSettings, platform: PlatformSettings) -> str | None:
    """Why this process must not start; None when it may."""
    if settings.keys or is_loopback(settings.host) or _keys_were_made(platform):
        return None
    return (
        f"METEOR_API_HOST is {settings.host}, which others can reach, and there is no API key. "
        "Make one with `meteor keys create`, or set METEOR_API_KEYS to one or more long random keys (comma separated), "
        "or METEOR_API_HOST to 127.0.0.1."
    )


def _keys_were_made(platform: PlatformSettings) -> bool:
    """Nothing is made by looking: a data folder without a database has no keys."""
    if platform.database_url is None and not (platform.data / "meteor.sqlite3").exists():
        return False
    return open_stores(platform.database).keys.any()


def main() -> int:
    """Run until SIGTERM. Exit code 2: the settings are refused."""
    settings = api_settings()
    set_up_logging("api")
    reason = refusal(settings, platform_settings())
    if reason is not None:
        sys.stderr.write(f"api: {reason}\n")
        return 2
    import uvicorn  # here, so that importing this module stays quick

    from services.api.middleware.slow_clients import bounded

    uvicorn.run(
        create_app(settings, platform_settings()),
        host=settings.host,
        port=settings.port,
        http=bounded(settings.headers_s, settings.body_idle_s),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return 0
