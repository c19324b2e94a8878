"""What tests with hostile requests share: the routes with a body, a raw connection, and what a refusal must look like."""

import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from services.api.openapi_document import operations
from tests.contract.conftest import RunningApi

DOCUMENT = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
JSON = "application/json"
BODIES = [
    (method, path, operation["requestBody"]["content"][JSON]["schema"])
    for path, method, operation in operations(DOCUMENT)
    if JSON in operation.get("requestBody", {}).get("content", {})
]
QUICK_S = 5.0


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:300]}"
    error = answer.json()["error"]
    assert set(error) - {"errors"} == {"message", "type", "param", "code"}
    assert len(answer.content) < 4096, "the answer repeats what was sent"
    assert not re.search(r"Traceback|site-packages|sqlalchemy|SELECT .* FROM", answer.text)
    assert answer.elapsed.total_seconds() < QUICK_S
    return error


def address(path: str, value: str = "x") -> str:
    return re.sub(r"\{\w+\}", quote(value, safe=""), path)


def raw(api: RunningApi, content: bytes) -> bytes:
    """What a connection answers to these bytes before it closes."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(content)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received
