"""SSRF-safe POST to addresses that callers chose.

The name is resolved once, each of its addresses is checked, and the connection goes to a checked address, so DNS rebinding has no
effect. There are no redirects, no proxies and no cookies, and no more of the response is read than the caller asks for.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, cast

import anyio
import httpcore

from shared.platform.http_client import certificates
from shared.platform.log import get_logger
from shared.platform.public_addresses import Network, literal, may_connect

log = get_logger(__name__)
CONNECT_S = 5.0
TOTAL_S = 15.0  # for one message: name, connection, handshake, answer
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressRefused(httpcore.ConnectError):
    """At least one address of the name is not allowed."""


class PostReply(NamedTuple):
    """status: of the response; None: there was none, and `error` says why. retry_after_s: from the header retry-after. body: as much as
    was asked for; None where it is longer. refused: the address is not allowed, which another attempt does not change."""

    status: int | None
    error: str | None = None
    retry_after_s: float = 0.0
    body: bytes | None = b""
    refused: bool = False


async def look_up(host: str, port: int) -> list[str]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in infos))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects only to checked addresses. Host and SNI keep the name: they come from the URL."""

    def __init__(self, allowed: Iterable[Network], resolve: Resolve = look_up):
        self._allowed = tuple(allowed)
        self._resolve = resolve
        self._network = cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._checked(host, port)
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(self, path: str, timeout=None, socket_options=None) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> list[str]:
        """Raises AddressRefused if any address is not allowed: a name with public and private addresses is suspicious."""
        addresses = [host] if literal(host) else list(await self._resolve(host, port))
        if not addresses:
            raise httpcore.ConnectError("the name leads nowhere")
        for address in addresses:
            parsed = literal(address.partition("%")[0])
            if parsed is None or not may_connect(parsed, self._allowed):
                log.warning("nothing is posted, the address is not allowed", host=host, address=address)
                raise AddressRefused("it leads to an address that is not allowed")
        return addresses


class Poster:
    def __init__(
        self, network: httpcore.AsyncNetworkBackend, total_s: float = TOTAL_S, context: ssl.SSLContext | None = None
    ):
        self._network = network
        self._total_s = total_s
        self._tls = context or certificates()

    async def post(self, url: str, headers: list[tuple[str, str]], body: bytes, most: int = 0) -> PostReply:
        """One attempt, on a new connection. most: bytes of the response's body that are read; without them only its head is."""
        timeouts = {"connect": CONNECT_S, "read": self._total_s, "write": self._total_s, "pool": CONNECT_S}
        try:
            async with (
                asyncio.timeout(self._total_s),
                httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=self._network) as pool,
                pool.stream(
                    "POST", url.encode("ascii"), headers=headers, content=body, extensions={"timeout": timeouts}
                ) as answer,
            ):
                retry_after = dict(answer.headers).get(b"retry-after", b"")
                pause_s = float(retry_after) if retry_after.isdigit() else 0.0
                return PostReply(answer.status, retry_after_s=pause_s, body=await _body(answer, most) if most else b"")
        except (TimeoutError, httpcore.TimeoutException):
            return PostReply(None, f"no answer within {self._total_s:.0f} s")
        except AddressRefused as error:
            return PostReply(None, str(error), refused=True)
        except (httpcore.NetworkError, httpcore.ProtocolError, socket.gaierror, OSError, ValueError) as error:
            return PostReply(None, _reason(error))


async def _body(answer: httpcore.Response, most: int) -> bytes | None:
    """None where it is longer."""
    body = bytearray()
    async for part in answer.aiter_stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name was not found"
    if "certificate" in str(error).lower():
        return "the certificate is not trusted"
    if isinstance(error, ValueError):  # a port out of range, brackets without an address, letters that are not ASCII
        return f"the address cannot be read ({error})"
    return f"no connection ({type(error).__name__})"
