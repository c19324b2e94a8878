"""One policy for HTTP clients: certificates are read once per process, connecting has a short timeout, calls to our own services
carry the internal token, and only calls to the outside heed the proxy variables. What is near (loopback, private addresses, names
without a dot) is never asked through a proxy, whatever NO_PROXY says: the proxy would read the tokens of such calls."""

import ipaddress
import socket
import ssl
from functools import lru_cache
from typing import Literal, TypedDict
from urllib.parse import urlsplit

import anyio
import httpx

from shared.platform import tracing
from shared.platform.settings import platform_settings

CONNECT_S = 5.0
NEAR = ("localhost", "local", "internal", "lan", "home.arpa")  # last parts of names that no proxy outside can know
Fault = Literal["certificate", "tls", "name", "proxy"]


@lru_cache
def certificates() -> ssl.SSLContext:
    """Root certificates, and those of METEOR_CA_BUNDLE. Without it each client reads them again: 60-100 ms of processor time per
    step. Raises SystemExit for a bundle that cannot be read."""
    context = httpx.create_ssl_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR
    if (bundle := platform_settings().ca_bundle) is not None:
        try:
            if bundle.is_dir():
                context.load_verify_locations(capath=bundle)
            else:
                context.load_verify_locations(cafile=bundle)
        except OSError as error:  # of which ssl.SSLError is one
            raise SystemExit(f"METEOR_CA_BUNDLE (or REQUESTS_CA_BUNDLE) names {bundle}: {error}") from None
    return context


def is_near(url: str) -> bool:
    """Whether the address is on this machine or in a private network."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or any(host.endswith(f".{name}") for name in NEAR)
    return address.is_private or address.is_loopback or address.is_link_local


def fault_of(error: BaseException | None) -> Fault | None:
    """Why no connection came about, where trying again cannot help: the certificate, no TLS there, the name, the proxy."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return "certificate"
        if isinstance(error, ssl.SSLError):
            return "tls"
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
            return "name"
        if isinstance(error, httpx.ProxyError):
            return "proxy"
        error = error.__cause__ or error.__context__
    return None


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
    hooks = {"request": [_trace_later]} if tracing.is_on() else None
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(**_internal(url, token, timeout_s), limits=limits, event_hooks=hooks)


def internal_sync_client(url: str = "", token: str = "", *, timeout_s: float) -> httpx.Client:
    """As internal_client, blocking."""
    hooks = {"request": [_trace]} if tracing.is_on() else None
    return httpx.Client(**_internal(url, token, timeout_s), event_hooks=hooks)


def _trace(request: httpx.Request) -> None:
    request.headers.update(tracing.headers())


async def _trace_later(request: httpx.Request) -> None:
    _trace(request)


def external_client(
    url: str = "",
    headers: dict[str, str] | None = None,
    *,
    connect_s: float = CONNECT_S,
    connections: int = 100,
    query: dict[str, str] | None = None,
    silence_s: float | None = None,
) -> httpx.AsyncClient:
    """For a provider: heeds the proxy variables unless it is near; each call sets its own deadline (asyncio.timeout).

    query: parameters of every address. silence_s: the longest time without a byte.
    """
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        params=query,
        timeout=httpx.Timeout(None, connect=connect_s, read=silence_s),
        limits=httpx.Limits(max_connections=connections, keepalive_expiry=20),
        verify=certificates(),
        trust_env=not is_near(url),
    )


def sync_client(url: str, headers: dict[str, str] | None = None, *, timeout: httpx.Timeout | float) -> httpx.Client:
    """For command lines, as external_client, blocking. url: the base of all calls, or what is asked later."""
    return httpx.Client(
        base_url=url, headers=headers, timeout=timeout, verify=certificates(), trust_env=not is_near(url)
    )


def load_http_client() -> None:
    """Load what httpx imports and reads at its first request, once, before the pool processes are forked."""
    httpx.AsyncClient(verify=certificates())
    anyio.run(anyio.sleep, 0)
    "localhost".encode("idna")
