"""Connections that begin a request and never end it, while others ask: `python -m tests.bench.half_open --connections 10000`.

One line of JSON: how many were opened and closed again by the server, and how long the requests beside them took.
"""

import argparse
import json
import resource
import selectors
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.contract.conftest import KEY, running_api

PART = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: "


def held_open(url: str, key: str, count: int, seconds: float) -> dict[str, Any]:
    """Opens `count` connections, every other one with half a header to which a byte is added each second."""
    host, port = url.removeprefix("http://").split(":")
    waiting = selectors.DefaultSelector()
    alive: set[socket.socket] = set()
    opened = closed = failed = 0
    took: list[float] = []
    headers = {"authorization": f"Bearer {key}"}

    def look() -> None:
        nonlocal closed
        for key, _ in waiting.select(0):
            one: Any = key.fileobj
            try:
                ended = not one.recv(4096)
            except OSError:
                ended = True
            if ended:
                waiting.unregister(one)
                alive.discard(one)
                one.close()
                closed += 1

    def ask() -> None:
        nonlocal failed
        start = time.monotonic()
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            answers = [client.get(path).status_code for path in ("/healthz", "/v1/files?limit=1")]
        took.append(time.monotonic() - start)
        failed += answers != [200, 200]

    for number in range(count):
        one = socket.create_connection((host, int(port)), timeout=30)
        one.setblocking(False)
        waiting.register(one, selectors.EVENT_READ)
        alive.add(one)
        opened += 1
        if number % 2:
            one.send(PART)
        if number % 250 == 249:
            look()
            ask()
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive:
        look()
        ask()
        for one in list(alive)[::2]:
            try:
                one.send(b"a")
            except OSError:
                continue  # `look` sees that it is closed
        time.sleep(1)
    look()
    for one in alive:
        one.close()
    return {"opened": opened, "closed": closed, "asked": len(took), "failed": failed, "slowest_s": round(max(took), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, running_api(Path(folder)) as api:
        before = api.peak_bytes()
        seen = held_open(api.url, KEY, given.connections, given.seconds)
        grown = round((api.peak_bytes() - before) / 2**20, 1)
    sys.stdout.write(
        json.dumps({"bench": "half_open"} | seen | {"grown_mib": grown, "descriptors_before": soft}) + "\n"
    )


if __name__ == "__main__":
    main()
