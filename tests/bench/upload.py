"""Memory and time of one long upload: `python -m tests.bench.upload --gb 2`. Prints one line of JSON.

Starts an API of its own in a temporary folder (--data names another place: the upload and its checked rows need three times
its size there), sends generated rows as they are made, and reads the peak memory of the API's process.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.contract.conftest import KEY, RunningApi, running_api

ROW_BYTES = 4000  # so that 2 GB stay below the largest number of rows
HEAD = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
HEAD += b'--x\r\ncontent-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'


def form(size: int) -> Iterator[bytes]:
    """A multipart form with a file of `size` bytes or a little more, in parts of about 400 kB."""
    yield HEAD
    filler = "word " * ((ROW_BYTES - 50) // 5)
    sent = number = 0
    while sent < size:
        part = b"".join(b'{"question": "%d %s"}\n' % (n, filler.encode()) for n in range(number, number + 100))
        yield part
        sent, number = sent + len(part), number + 100
    yield b"\r\n--x--\r\n"


def peak_mb(pid: int) -> float:
    """The most memory that a process has held since its peak was reset, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def measured(http: httpx.Client, pid: int, size: int) -> dict[str, Any]:
    """Upload `size` bytes to the API with this process id; {file, bytes, rows, seconds, peak_mb, grown_mb}."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
    before, started = peak_mb(pid), time.monotonic()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = http.post("/v1/files", content=form(size), headers=headers, timeout=3600)
    answer.raise_for_status()
    file, seconds, peak = answer.json(), time.monotonic() - started, peak_mb(pid)
    return {
        "file": file["id"],
        "bytes": file["bytes"],
        "rows": file["n_rows"],
        "seconds": round(seconds, 1),
        "peak_mb": round(peak, 1),
        "grown_mb": round(peak - before, 1),
    }


def _run(data: Path, size: int) -> dict[str, Any]:
    with running_api(data, METEOR_API_UPLOAD_BYTES=str(2 * size)) as api, _client(api) as http:
        return measured(http, api.process.pid, size)


def _client(api: RunningApi) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=2.0, help="10^9 bytes")
    parser.add_argument("--data", type=Path, help="an empty folder on a disk with room")
    arguments = parser.parse_args()
    size = int(arguments.gb * 1e9)
    if arguments.data:
        print(json.dumps(_run(arguments.data, size)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_run(Path(folder), size)))


if __name__ == "__main__":
    main()
