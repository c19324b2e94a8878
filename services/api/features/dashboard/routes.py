"""/ and /ui/...: the dashboard. Its pages hold no data and ask for no key; their script asks the API as any client does.

The built files come from services/dashboard. All pages are one document, whose script shows the view of the path.
"""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import Response
from starlette.exceptions import HTTPException

from services.api.responses.etags import IfNoneMatch, tagged
from services.api.responses.page_policy import hashed, page_headers
from services.api.router import Router

BUILT = files("services.api.features.dashboard").joinpath("built")
REPORT = files("services.api.features.results").joinpath("report.html.j2").read_text(encoding="utf-8")
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jsonl": "application/jsonl",
}
FOREVER = "public, max-age=31536000, immutable"  # their names hold the hash of their content


def _report_style() -> str:
    """The style of a report, which the dashboard fetches with its key and shows under its own policy."""
    (style,) = re.findall("<style>(.*?)</style>", REPORT, re.DOTALL)
    return hashed(style)


def _assets(folder: Traversable) -> dict[str, bytes]:
    """Built files by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


PAGE = BUILT.joinpath("index.html").read_bytes()
ASSETS = _assets(BUILT.joinpath("assets"))
HEADERS = page_headers(
    "script-src 'self'",
    f"style-src 'self' {_report_style()}",
    "img-src 'self' data:",
    "connect-src 'self'",
    "require-trusted-types-for 'script'",  # makes an error of innerHTML and its like: names and events are users' texts
    "trusted-types svelte-trusted-html",  # of Svelte's templates, which hold no data
)

router = Router(include_in_schema=False)


@router.get("/ui/assets/{name}")
def asset(name: str) -> Response:
    content = ASSETS.get(name)
    if content is None:
        raise HTTPException(404, "there is no such file of the dashboard; reload the page")
    suffix = f".{name.rpartition('.')[2]}"
    media_type = TYPES.get(suffix, "application/octet-stream")
    headers = {"cache-control": FOREVER, "x-content-type-options": "nosniff"}
    return Response(content, media_type=media_type, headers=headers)


@router.get("/")
@router.get("/ui")
@router.get("/ui/{path:path}")
def page(if_none_match: IfNoneMatch = None) -> Response:
    return tagged(PAGE, if_none_match, HEADERS, "text/html; charset=utf-8")
