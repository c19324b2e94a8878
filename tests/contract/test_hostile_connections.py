"""Hostile connections: what is no HTTP, what never ends, what falls silent, and what comes where nobody looks for it."""

import contextlib
import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.bench.half_open import held_open
from tests.contract.conftest import KEY, RunningApi, running_api
from tests.contract.hostile import JSON, QUICK_S, raw
from tests.fakes.vllm import FakeVllm

HEAD = f"POST /v1/labels HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\ncontent-type: {JSON}\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where none is spoken
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: a\nset-cookie: b\r\n\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"POST /v1/labels HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/labels HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_our_form(api: RunningApi, content: bytes):
    head, _, body = raw(api, content).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_headers_without_end_are_cut_off(api: RunningApi):
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(b"b" * 32 * 2**20)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm) -> Iterator[RunningApi]:
    waits = {"METEOR_API_HEADERS_S": "3", "METEOR_API_BODY_IDLE_S": "1"}
    with running_api(tmp_path_factory.mktemp("impatient"), METEOR_API_ENGINE_URL=engine.url, **waits) as running:
        yield running


def test_connections_that_are_held_half_open_stop_nobody(impatient: RunningApi):
    """500 of them, half that never say a word and half in the middle of a header; 10,000: tests.bench.half_open."""
    seen = held_open(impatient.url, KEY, count=500, seconds=8)
    assert seen["opened"] == 500
    assert seen["failed"] == 0
    assert seen["slowest_s"] < QUICK_S
    assert seen["closed"] == 500, "half-open connections outlive their deadline"


def test_a_body_that_falls_silent_is_given_up(impatient: RunningApi):
    with contextlib.suppress(ConnectionResetError):
        assert not raw(impatient, f"{HEAD}content-length: 100\r\n\r\n{{".encode())


def test_what_comes_behind_a_body_is_not_collected(api: RunningApi):
    """Trailers have no limit of their own, and a key is not asked for before they are read."""
    chunks = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with contextlib.suppress(ConnectionResetError):
        assert raw(api, (HEAD + chunks + "x: y\r\n" * 100_000 + "\r\n").encode()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", ["/v1/files/", "/docs/", "//evil.example/", "/v1/files/%2e%2e/keys"])
def test_nobody_is_sent_elsewhere(api: RunningApi, http: httpx.Client, path: str):
    """Least of all to the host that the request names."""
    # the whole address: of a path with two slashes the client would leave out what looks like a host
    answer = http.get(f"{api.url}{path}", headers={"host": "evil.example"}, follow_redirects=False)
    assert (answer.status_code, "location" in answer.headers) == (404, False)
    assert "evil" not in answer.text
