"""Fixtures that stand on real servers: a valkey-server and a PostgreSQL per test run, a fresh database per test."""

import os
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import redis
import structlog
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from shared.artifacts.store import Artifacts
from shared.contracts.distillation import Distillation
from shared.contracts.jobs import JobRequest
from shared.db.engine import engine_for
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.loading import loading
from tests.fakes.migrated import begin_as_copies
from tests.fakes.ports import free_port as any_free_port
from tests.fakes.postgres import fresh_database, running_postgres
from tests.fakes.valkey import running_valkey

pytest_plugins = ["tests.without_torch"]

# Tiny models gain nothing by a second thread, and threads that wait for each other beside other workers keep the cores busy:
# a training of 24 rows took 23 s of processor time with two threads, and 5 s with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("meteor", deadline=None)  # a busy machine is slow; that is no failure
settings.load_profile("meteor")


def _read_certificates_once() -> None:
    """Each client of httpx reads the root certificates anew, which takes 20 ms: more than all else of a short test. One that asks for
    certificates of its own (as shared/platform/http_client.py does) still gets them."""
    for library in (httpx, httpx2):
        transports = library._transports.default
        made = transports.create_ssl_context

        @lru_cache
        def usual(trust_env: bool, named: tuple[str | None, ...], made: Callable[..., Any] = made) -> Any:
            return made(trust_env=trust_env)

        def once(
            verify: Any = True, cert: Any = None, trust_env: bool = True, made: Any = made, usual: Any = usual
        ) -> Any:
            named = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            return usual(trust_env, named) if verify is True and cert is None else made(verify, cert, trust_env)

        transports.create_ssl_context = once


_read_certificates_once()


def _wait_for_a_busy_machine() -> None:
    """httpx gives up after 5 s unless it is told otherwise; a server of the tests may take longer while all cores are busy."""
    for limit in ("connect", "read", "write", "pool"):
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, limit, 60.0)


_wait_for_a_busy_machine()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Each worker imports all test files, and with them the libraries of models."""
    with loading():
        return (yield)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


SHARING = ("tests/e2e/", "tests/browser/")  # the tests of one folder share a running system, and a browser


class FilesAndSystems(LoadFileScheduling):
    """A worker of pytest-xdist takes whole files, and the files of a folder that shares a system together."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARING if nodeid.startswith(folder)), None) or super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return FilesAndSystems(config, log)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test set up of logging ends with the test."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session", autouse=True)
def _databases_begin_as_copies() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        begin_as_copies(patch)
        yield


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Call it for a free loopback port."""
    return any_free_port


@pytest.fixture(scope="session")
def _valkey_server() -> Iterator[str]:
    with running_valkey() as url:
        yield url


@pytest.fixture
def valkey(_valkey_server: str) -> str:
    """URL of a real, empty broker on loopback."""
    with redis.Redis.from_url(_valkey_server) as client:
        client.flushall()
    return _valkey_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a real PostgreSQL server's first database; `database_url` gives each test a database of its own."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    url = f"sqlite:///{tmp_path / 'db' / 'meteor.sqlite3'}"
    yield url
    engine_for(url).dispose()


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    url = fresh_database(postgres)
    yield url
    engine_for(url).dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database, once on SQLite and once on PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def stores(database_url: str) -> Stores:
    return open_stores(database_url)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def job_of_default_project(stores: Stores, **changes):
    file = stores.catalog.add_file(
        DEFAULT_PROJECT, sha256="0" * 64, bytes=1, filename="rows.jsonl", purpose="fine-tune",
        status="processed", errors=[], n_rows=1, splits={"train": 1},
    )  # fmt: skip
    request = JobRequest(model="tiny", training_file=file.id, distillation=Distillation(domain="shell"))
    return stores.jobs.create(DEFAULT_PROJECT, request.model_copy(update=changes))


@pytest.fixture
def new_job():
    """Call it with stores for a queued job of the default project, its (empty) file included."""
    return job_of_default_project


@pytest.fixture
def job(stores: Stores, new_job):
    """A queued job of the default project, on each database."""
    return new_job(stores)
