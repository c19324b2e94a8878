"""Gzip for JSON and pages. Streams pass as they come, and so do files: ranges and tags refer to their exact bytes."""

import re

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

FILE_CONTENT = re.compile(r"/v1/(files|exports)/[^/]+/content(/|$)")
LEAST_BYTES = 1024  # a shorter response fits into one packet anyway
LEVEL = 5  # zlib's


class Compression(GZipMiddleware):
    def __init__(self, app: ASGIApp):
        super().__init__(app, LEAST_BYTES, LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_file = scope["type"] == "http" and FILE_CONTENT.match(scope["path"])
        await (self.app if is_file else super().__call__)(scope, receive, send)
