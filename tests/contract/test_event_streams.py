"""Event streams over real sockets: a reader that does not read harms nobody and finds everything again."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import job_of_default_project
from tests.contract.conftest import KEY, RunningApi, running_api
from tests.fakes.ports import free_port

COUNT, LONG = 600, "x" * 20_000  # 12 MB: more than sockets hold on their own
STALL_S = 1.0


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[RunningApi]:
    broker = f"redis://127.0.0.1:{free_port()}/0"
    with running_api(tmp_path, REDIS_URL=broker, METEOR_API_EVENTS_STALL_S=str(STALL_S)) as running:
        yield running


def opened(api: RunningApi, job_id: str, last_event_id: int = 0) -> socket.socket:
    """A stream that was asked for and of which nothing is read."""
    parts = urlsplit(api.url)
    assert parts.hostname is not None
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.connect((parts.hostname, parts.port))
    lines = [
        f"GET /v1/distillation/jobs/{job_id}/events HTTP/1.1",
        f"host: {parts.netloc}",
        f"authorization: Bearer {KEY}",
        "accept: text/event-stream",
        f"last-event-id: {last_event_id}",
        "",
        "",
    ]
    stream.sendall("\r\n".join(lines).encode())
    return stream


def rest_of(stream: socket.socket) -> bytes:
    stream.settimeout(20)
    return b"".join(iter(lambda: stream.recv(1 << 16), b""))


def test_a_reader_that_does_not_read_harms_nobody(impatient: RunningApi):
    stores = impatient.stores
    job = job_of_default_project(stores)
    stalled = [opened(impatient, job.id) for _ in range(10)]
    time.sleep(0.5)
    before = impatient.peak_bytes()
    for n in range(COUNT):
        stores.jobs.add_event(job, f"{n} {LONG}")
    stores.jobs.cancel(job)
    numbers = [row.sequence for row in stores.jobs.events(job.id, limit=1000)]

    headers = {"authorization": f"Bearer {KEY}", "accept": "text/event-stream"}
    begun = time.monotonic()
    answer = httpx.get(f"{impatient.url}/v1/distillation/jobs/{job.id}/events", headers=headers, trust_env=False)
    assert time.monotonic() - begun < 15
    assert [int(number) for number in re.findall(r"^id: (\d+)$", answer.text, re.MULTILINE)] == numbers
    assert answer.text.endswith('event: done\ndata: {"status": "cancelled"}\n\n')
    assert impatient.peak_bytes() - before < 5 * COUNT * len(LONG), "there are no queues of what nobody reads"

    time.sleep(2 * STALL_S)
    got = rest_of(stalled[0])
    assert b"event: done" not in got, "it was given up"
    # the last one may have been cut, so it does not count as received
    seen = [int(number) for number in re.findall(rb"\r?\nid: (\d+)\n", got)][:-1]
    assert seen == numbers[: len(seen)]
    text, had = b"", len(seen)
    while b"event: done" not in text:  # on a busy machine this reader, too, may be given up, and connects again
        again = opened(impatient, job.id, last_event_id=seen[-1] if seen else 0)
        text = rest_of_chunked(again)
        again.close()
        got_now = [int(number) for number in re.findall(rb"id: (\d+)\nevent", text)]
        seen += got_now if b"event: done" in text else got_now[:-1]
        assert len(seen) > had or b"event: done" in text, "each connection brings something"
        had = len(seen)
    assert seen == numbers
    assert b'event: done\ndata: {"status": "cancelled"}' in text
    for stream in stalled:
        stream.close()


def rest_of_chunked(stream: socket.socket) -> bytes:
    """All up to the last, empty chunk, or to the end of the connection; chunk sizes stay in between."""
    stream.settimeout(20)
    text = bytearray()
    while not text.endswith(b"\r\n0\r\n\r\n") and (part := stream.recv(1 << 16)):
        text += part
    return bytes(text)
