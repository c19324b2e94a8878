"""The root certificates, read once per process."""

import ssl
from functools import lru_cache

import anyio
import httpx


@lru_cache
def tls() -> ssl.SSLContext:
    """For every HTTP client of ours. Without it each client reads them anew: 60-100 ms of processor time per step."""
    return httpx.create_ssl_context()


def load_http_client() -> None:
    """What httpx reads and imports at its first request, once for all the processes that will be forked from this one."""
    httpx.AsyncClient(verify=tls())
    anyio.run(anyio.sleep, 0)
    "localhost".encode("idna")
