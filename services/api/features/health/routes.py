"""/healthz and /readyz"""

import asyncio

from fastapi.responses import JSONResponse

from services.api.deps import Engine, ServerContext
from services.api.features.health import service as health
from services.api.router import Router
from shared.contracts.errors import ErrorBody
from shared.contracts.views import Alive, Readiness

router = Router(tags=["health"])


@router.get("/healthz")
async def healthz() -> Alive:
    """The process is alive and its event loop runs."""
    return Alive()


@router.get(
    "/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "Parts are missing."}}
)
async def readyz(context: ServerContext, engine: Engine) -> JSONResponse:
    """200 when all parts are there; else 503 with their names."""
    checks, state, lost = await asyncio.gather(health.readiness(context, engine), engine.status(), health.lost(context))
    missing = [part for part, available in checks.items() if not available]
    body = {"status": "not_ready" if missing else "ready", "missing": missing, "checks": checks, "lost": lost}
    if state is not None:
        body["engine"] = state.model_dump(mode="json")
    if not missing:
        return JSONResponse(body)
    error = ErrorBody(message=f"not ready: {', '.join(missing)}", type="server_error", code="not_ready")
    return JSONResponse(body | {"error": error.model_dump()}, status_code=503, headers={"retry-after": "2"})
