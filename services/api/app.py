"""The REST API: `python -m services.api`."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import REGISTRY
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from services.api.context import open_context
from services.api.deps import may_scrape
from services.api.engine_client import EngineClient
from services.api.features.audit import routes as audit
from services.api.features.canaries import routes as canaries
from services.api.features.canaries.recorder import CanaryRecorder
from services.api.features.captures import routes as captures
from services.api.features.chat import routes as chat
from services.api.features.chat.recorder import LAST_S, Recorder
from services.api.features.chat.shadows import Shadows
from services.api.features.completions import routes as completions
from services.api.features.dashboard import routes as dashboard
from services.api.features.docs import routes as docs
from services.api.features.evals import routes as evals
from services.api.features.events import routes as events
from services.api.features.events.hub import EventHub
from services.api.features.experiments import routes as experiments
from services.api.features.exports import routes as exports
from services.api.features.feedback import routes as feedback
from services.api.features.files import routes as files
from services.api.features.forgetting import routes as forgetting
from services.api.features.graders import routes as graders
from services.api.features.health import routes as health
from services.api.features.health.metrics import StoreCollector
from services.api.features.imports import routes as imports
from services.api.features.jobs import routes as jobs
from services.api.features.keys import routes as keys
from services.api.features.labels import routes as labels
from services.api.features.models import routes as models
from services.api.features.projects import routes as projects
from services.api.features.providers import routes as providers
from services.api.features.recipes import routes as recipes
from services.api.features.recipes.runner import RecipeRunner
from services.api.features.results import routes as results
from services.api.features.system import routes as system
from services.api.features.usage import routes as usage
from services.api.features.webhooks import routes as webhooks
from services.api.features.webhooks.deliveries import Deliverer
from services.api.middleware.audit import AuditTrail
from services.api.middleware.body_limits import BodyLimit
from services.api.middleware.compression import Compression
from services.api.middleware.head import HeadAsGet
from services.api.middleware.idempotency import Replayed, StoredResponses, on_replayed
from services.api.openapi_document import document
from services.api.router import add_to
from services.api.settings import ApiSettings, api_settings
from services.api.unknown_paths import on_http_error
from shared.contracts.errors import ErrorBody
from shared.jobs.schema import open_stores
from shared.platform import tracing
from shared.platform.http import error_response, is_loopback, new_app
from shared.platform.log import get_logger, set_up_logging
from shared.platform.safe_post import CheckedNetwork, Poster
from shared.platform.settings import PlatformSettings, platform_settings

log = get_logger(__name__)
FEATURES = (
    files, imports, jobs, recipes, results, events, graders, experiments, evals, exports, labels, canaries, captures, models,
    chat, completions, feedback, forgetting, keys, projects, usage, providers, system, webhooks, audit, health, docs, dashboard,
)  # fmt: skip  # in the order of the OpenAPI document
EXPOSED = [
    "x-request-id", "retry-after", "x-should-retry", "etag", "location", "idempotent-replayed", "x-meteor-model",
    "x-meteor-ignored", "x-meteor-clamped",
]  # fmt: skip
SHUTDOWN_S = 5  # open event streams get this long when the process ends


def _cors(settings: ApiSettings) -> list[Middleware]:
    """Lets web pages of the origins in the settings call the API. RequestScope surrounds the answers to preflights too."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    ]


async def _on_bad_value(_: Request, error: DataError) -> JSONResponse:
    """PostgreSQL refuses what SQLite accepts: NUL bytes in names, numbers out of range."""
    message = "a value of the request cannot be looked up; names hold no control characters"
    return error_response(ErrorBody(message=message, type="invalid_request_error", code="invalid_value"), 400)


async def _on_database_unavailable(_: Request, error: OperationalError) -> JSONResponse:
    log.error("database unavailable", error=repr(error.orig))
    body = ErrorBody(message="the job database does not answer", type="server_error", code="database_unavailable")
    return error_response(body, 503, {"retry-after": "2"})


def create_app(settings: ApiSettings, platform: PlatformSettings) -> FastAPI:
    """The application; it opens its stores when it starts and closes its connections when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        state = app.state
        state.context = context = open_context(settings, platform)
        state.engine = EngineClient(settings, platform.internal_token.get_secret_value())
        state.shadows = Shadows(state.engine, settings.shadows)
        state.recorder = CanaryRecorder(context.stores.canaries)
        state.chat_recorder = Recorder(context.stores.chats, settings)
        state.hub = EventHub(context.stores, settings)
        state.poster = Poster(CheckedNetwork(settings.webhook_networks))
        collector = StoreCollector(context)
        REGISTRY.register(collector)
        retention_s = platform.retention.total_seconds()
        deliverer = Deliverer(context.stores.webhooks, state.poster, context.webhook_key, retention_s)
        background = (
            state.hub.run(), deliverer.run(), state.recorder.run(), state.chat_recorder.run(), RecipeRunner(context).run(),
        )  # fmt: skip
        loops = [asyncio.create_task(loop) for loop in background]
        try:
            yield
        finally:
            await state.chat_recorder.settled(LAST_S)
            for loop in loops:
                loop.cancel()
            REGISTRY.unregister(collector)
            await state.shadows.aclose()
            await state.recorder.aclose()
            await state.engine.aclose()
            context.providers.close()
            await context.request_limits.aclose()
            await asyncio.to_thread(tracing.flush)

    app = new_app(
        "api",
        "METEOR",
        may_scrape=[Depends(may_scrape)],
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from other servers; features/docs has a page without scripts
        redoc_url=None,
        redirect_slashes=False,  # the target would come from the Host header
        middleware=_cors(settings),
    )
    app.openapi = lambda: document(app)
    app.add_middleware(BodyLimit, limit=settings.body_bytes, values=settings.body_values)
    app.add_middleware(StoredResponses)
    app.add_middleware(AuditTrail)
    app.add_middleware(Compression)
    app.add_middleware(HeadAsGet)
    app.exception_handler(HTTPException)(on_http_error)
    app.exception_handler(Replayed)(on_replayed)
    app.exception_handler(DataError)(_on_bad_value)
    app.exception_handler(OperationalError)(_on_database_unavailable)
    for feature in FEATURES:
        add_to(app, feature.router)
    return app


def refusal(settings: ApiSettings, platform: PlatformSettings) -> str | None:
    """Why this process must not start; None if it may."""
    if settings.keys or is_loopback(settings.host) or _any_key_exists(platform):
        return None
    return (
        f"METEOR_API_HOST is {settings.host}, which others can reach, and there is no API key. "
        "Make one with `meteor keys create`, or set METEOR_API_KEYS to one or more long random keys (comma separated), "
        "or METEOR_API_HOST to 127.0.0.1."
    )


def _any_key_exists(platform: PlatformSettings) -> bool:
    """Creates no database: a data folder without one has no keys."""
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
    import uvicorn  # here, so that importing this module stays fast

    from services.api.middleware.slow_clients import bounded

    uvicorn.run(
        create_app(settings, platform_settings()),
        host=settings.host,
        port=settings.port,
        http=bounded(settings.headers_s, settings.body_idle_s),
        timeout_keep_alive=settings.keep_alive_s,
        headers=[("keep-alive", f"timeout={settings.keep_alive_s}")],
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return 0
