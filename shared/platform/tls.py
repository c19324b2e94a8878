"""The root certificates, read once per process."""

import ssl
from functools import lru_cache

import httpx


@lru_cache
def tls() -> ssl.SSLContext:
    """For every HTTP client of ours. Without it each client reads them anew: 60-100 ms of processor time per step."""
    return httpx.create_ssl_context()
