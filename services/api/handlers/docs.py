"""/docs: the reference as one page, made here from /openapi.json. No script, nothing from other servers."""

import base64
import hashlib
from functools import lru_cache

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.api.service.reference import STYLE, page

STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)


@lru_cache(maxsize=1)
def _rendered(app) -> str:
    return page(app.openapi())


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(_rendered(request.app), headers=HEADERS)
