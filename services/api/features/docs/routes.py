"""/docs: the reference as one page, made here from /openapi.json. No script, nothing from other servers."""

from functools import lru_cache

from fastapi import Request
from fastapi.responses import HTMLResponse

from services.api.features.docs.reference import STYLE, page
from services.api.responses.page_policy import hashed, page_headers
from services.api.router import Router

HEADERS = page_headers(f"style-src {hashed(STYLE)}")

router = Router(include_in_schema=False)


@lru_cache(maxsize=1)
def _rendered(app) -> str:
    return page(app.openapi())


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(_rendered(request.app), headers=HEADERS)
