"""Health checks of an engine, for its supervisor."""

import re
from functools import cache

import httpx

from shared.platform.http_client import internal_sync_client

TIMEOUT_S = 2.0  # a stop waits for a check in progress
REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? ([0-9.eE+]+)$", re.MULTILINE)


@cache
def _client() -> httpx.Client:
    """One for all checks: creating a client costs more than a check."""
    return internal_sync_client(timeout_s=TIMEOUT_S)


def is_healthy(url: str) -> bool:
    """True when a vLLM server has its model in memory and answers."""
    try:
        return _client().get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def is_busy(url: str) -> bool:
    """True when a vLLM server reports running or waiting requests."""
    try:
        return any(float(count) for count in REQUESTS.findall(_client().get(f"{url}/metrics").text))
    except httpx.HTTPError:
        return False


def serves(url: str, token: str, name: str) -> bool:
    """True when GET /v1/models of any OpenAI-compatible server lists this name."""
    try:
        answer = _client().get(f"{url.rstrip('/')}/v1/models", headers={"authorization": f"Bearer {token}"})
        answer.raise_for_status()
        return name in {model["id"] for model in answer.json()["data"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
