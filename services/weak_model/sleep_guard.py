"""ASGI middleware of vLLM's server (`--middleware`): the sleep guard. The engine process puts vLLM to sleep and wakes it through it; requests
are refused meanwhile.

    GET  /sleep_mode   whether vLLM can sleep here
    POST /sleep        closes the guard, waits for the requests on their way, frees the device
    POST /wake_up      takes the device again; the guard stays closed for all but the answer probe
    POST /open         opens the guard

All four want the internal token. vLLM has routes of that kind only with VLLM_SERVER_DEV_MODE, which opens others (/collective_rpc, new weights)
to whoever reaches the port. This module imports nothing of vLLM's: it uses the engine client that vLLM's application holds.
"""

import asyncio
import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Control = Callable[["SleepGuard", Scope, Send], Awaitable[None]]

PROBE = b"x-meteor-probe"  # header of the answer probe's requests after waking
UNGUARDED = frozenset(
    {"/health", "/metrics", "/version", "/ping"}
)  # what needs no device; all else is refused while the guard is closed
TRY_AGAIN_LATER = 1013  # why a WebSocket is closed
DRAIN_S, LOOK_S = 30.0, 0.05
LEVEL = 1  # weights go to the host's memory; level 2 drops them, and the adapters with them
RETRY_AFTER = b"10"


class SleepGuard:
    def __init__(self, app: App):
        self._app = app
        self._token = os.environ.get("VLLM_API_KEY", "")
        self._open = True
        self._on_their_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in UNGUARDED:
            return await self._app(scope, receive, send)
        route = (scope.get("method", ""), scope["path"])
        if route in ROUTES:
            return await ROUTES[route](self, scope, send)
        if not self._open and not _header(scope, PROBE):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return await _refuse(send, HTTPStatus.SERVICE_UNAVAILABLE, "the engine lends its device to a training")
        self._on_their_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._on_their_way -= 1

    async def _sleep_mode(self, scope: Scope, send: Send) -> None:
        if await self._allowed(scope, send):
            await _answer(send, HTTPStatus.OK, {"available": _can_sleep(scope)})

    async def _sleep(self, scope: Scope, send: Send) -> None:
        if not await self._allowed(scope, send):
            return
        if not _can_sleep(scope):
            return await _refuse(send, HTTPStatus.NOT_IMPLEMENTED, "vLLM was started without sleep mode")
        self._open = False
        if not await self._drained(scope):
            self._open = True
            return await _refuse(send, HTTPStatus.CONFLICT, f"{self._on_their_way} requests have not ended")
        await _engine(scope).sleep(LEVEL)
        await _answer(send, HTTPStatus.OK, {"asleep": True})

    async def _drained(self, scope: Scope) -> bool:
        """Whether the requests on their way ended in time; ?drain_s= says how long that is."""
        asked = parse_qs(scope.get("query_string", b"").decode()).get("drain_s")
        turns = int((float(asked[0]) if asked else DRAIN_S) / LOOK_S)
        for _ in range(turns):
            if not self._on_their_way:
                break
            await asyncio.sleep(LOOK_S)
        return not self._on_their_way

    async def _wake_up(self, scope: Scope, send: Send) -> None:
        if await self._allowed(scope, send):
            await _answer(send, HTTPStatus.OK, {"awake": await _engine(scope).wake_up()})

    async def _open_guard(self, scope: Scope, send: Send) -> None:
        if await self._allowed(scope, send):
            self._open = True
            await _answer(send, HTTPStatus.OK, {"open": True})

    async def _allowed(self, scope: Scope, send: Send) -> bool:
        """Whether the token is right; refuses the request where it is not."""
        given = _header(scope, b"authorization").removeprefix(b"Bearer ")
        if hmac.compare_digest(given, self._token.encode()):
            return True
        await _refuse(send, HTTPStatus.UNAUTHORIZED, "the internal token is needed")
        return False


ROUTES: dict[tuple[str, str], Control] = {
    ("GET", "/sleep_mode"): SleepGuard._sleep_mode,
    ("POST", "/sleep"): SleepGuard._sleep,
    ("POST", "/wake_up"): SleepGuard._wake_up,
    ("POST", "/open"): SleepGuard._open_guard,
}


def _engine(scope: Scope) -> Any:
    """vLLM's EngineClient."""
    return scope["app"].state.engine_client


def _can_sleep(scope: Scope) -> bool:
    return bool(_engine(scope).vllm_config.model_config.enable_sleep_mode)


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


async def _refuse(send: Send, status: HTTPStatus, message: str) -> None:
    error = {"message": message, "type": "server_error", "code": status.name.lower()}
    await _answer(send, status, {"error": error})


async def _answer(send: Send, status: HTTPStatus, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", RETRY_AFTER))
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": content})
