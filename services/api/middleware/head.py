"""HEAD as GET: the same status and headers, and no body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Below version 2.4 Starlette's streams end when `receive` says that the client has left, which it says after a whole response.
LISTENING = {"version": "3.0", "spec_version": "2.3"}


class HeadAsGet:
    """Pure ASGI middleware, the outermost. The response ends with its headers, and so does a stream."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self.app(scope, receive, send)

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        await self.app(dict(scope) | {"method": "GET", "asgi": LISTENING}, receive, send_headers)
