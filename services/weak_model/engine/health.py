"""Whether an engine answers and whether it works, for its keeper. Apart from `clients`, so that the engine process starts without the SDK."""

import re
from functools import cache

import httpx

HEALTH_S = 2.0  # a stop waits for a question under way


@cache
def _client() -> httpx.Client:
    """One for all questions: making a client costs more than asking."""
    return httpx.Client(timeout=HEALTH_S)


def is_healthy(url: str) -> bool:
    """True when a vLLM server has its model in memory and answers."""
    try:
        return _client().get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? ([0-9.eE+]+)$", re.MULTILINE)


def is_busy(url: str) -> bool:
    """True when a vLLM server has requests that run or wait; one that does not tell has none."""
    try:
        return any(float(count) for count in REQUESTS.findall(_client().get(f"{url}/metrics").text))
    except httpx.HTTPError:
        return False


def serves(url: str, token: str, name: str) -> bool:
    """True when a server of any make answers GET /v1/models and lists this name. For one that we did not start."""
    try:
        answer = _client().get(f"{url.rstrip('/')}/v1/models", headers={"authorization": f"Bearer {token}"})
        answer.raise_for_status()
        return name in {model["id"] for model in answer.json()["data"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
