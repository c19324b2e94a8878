"""One policy for HTTP clients: certificates are read once per process, connecting has a short timeout, and calls to our own
services carry the internal token and never go through a proxy."""

import ssl
from functools import lru_cache
from typing import TypedDict

import anyio
import httpx

CONNECT_S = 5.0


@lru_cache
def certificates() -> ssl.SSLContext:
    """Root certificates. Without it each client reads them again: 60-100 ms of processor time per step."""
    return httpx.create_ssl_context()


class _Options(TypedDict):
    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    verify: ssl.SSLContext
    trust_env: bool


def _internal(url: str, token: str, timeout_s: float) -> _Options:
    return {
        "base_url": url,
        "headers": {"authorization": f"Bearer {token}"} if token else {},
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s), pool=None),
        "verify": certificates(),
        "trust_env": False,
    }


def internal_client(url: str = "", token: str = "", *, timeout_s: float) -> httpx.AsyncClient:
    """For one of our own services or engines. No limit on connections: all rows of a step are sent at once."""
    return httpx.AsyncClient(**_internal(url, token, timeout_s), limits=httpx.Limits(max_connections=None))


def internal_sync_client(url: str = "", token: str = "", *, timeout_s: float) -> httpx.Client:
    """As internal_client, blocking."""
    return httpx.Client(**_internal(url, token, timeout_s))


def external_client(
    url: str = "",
    headers: dict[str, str] | None = None,
    *,
    connect_s: float = CONNECT_S,
    connections: int = 100,
    query: dict[str, str] | None = None,
    silence_s: float | None = None,
) -> httpx.AsyncClient:
    """For a provider outside: heeds the proxy variables; each call sets its own deadline (asyncio.timeout).

    query: parameters of every address. silence_s: the longest time without a byte.
    """
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        params=query,
        timeout=httpx.Timeout(None, connect=connect_s, read=silence_s),
        limits=httpx.Limits(max_connections=connections, keepalive_expiry=20),
        verify=certificates(),
    )


def load_http_client() -> None:
    """Load what httpx imports and reads at its first request, once, before the pool processes are forked."""
    httpx.AsyncClient(verify=certificates())
    anyio.run(anyio.sleep, 0)
    "localhost".encode("idna")
