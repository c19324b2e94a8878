"""/: the jobs as they run, in a browser. The page holds no data and asks for no key; its script asks the API as any client does."""

import re
from importlib.resources import files

from fastapi import APIRouter, Response

from services.api.responses.etags import IfNoneMatch, tagged
from services.api.responses.page_policy import hashed, page_headers

PAGE = files("services.api.features.live").joinpath("live.html").read_text(encoding="utf-8")
REPORT = files("services.api.features.results").joinpath("report.html.j2").read_text(encoding="utf-8")


def _only(tag: str, text: str) -> str:
    """What stands inside the one element of this name."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return content


HEADERS = page_headers(
    # a report that this page has fetched with its key is shown under this page's policy
    f"style-src {hashed(_only('style', PAGE))} {hashed(_only('style', REPORT))}",
    f"script-src {hashed(_only('script', PAGE))}",
    "connect-src 'self'",
    "img-src data:",  # its icon, without which browsers ask for one
    "require-trusted-types-for 'script'",  # makes an error of innerHTML and its like: names and events are users' texts
)

router = APIRouter(include_in_schema=False)


@router.get("/")
def live(if_none_match: IfNoneMatch = None) -> Response:
    return tagged(PAGE.encode(), if_none_match, HEADERS, "text/html; charset=utf-8")
