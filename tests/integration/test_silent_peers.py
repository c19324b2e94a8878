"""A database or broker that says nothing, as when a host is cut off: nobody waits for it without a bound."""

import ast
import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from services.strong_model.gateway.app import open_gateway
from shared.artifacts.store import Artifacts
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.db.engine import IDLE_TRANSACTION_S, UNAVAILABLE, engine_for, reading, writing
from shared.jobs.schema import open_stores
from shared.jobs.tables import steps
from shared.ledger.tables import gateways
from shared.platform import keepalive
from shared.platform.settings import platform_settings
from shared.queue.step_task import StepContext, StepRunner
from tests.fakes.start import ROOT


def test_a_handler_stops_with_its_lease_when_the_database_is_silent(
    postgres_url: str, tmp_path: Path, new_job, monkeypatch: pytest.MonkeyPatch
):
    environment = {"METEOR_LEASE": "PT1S", "METEOR_RENEW": "PT0.2S", "DATABASE_URL": postgres_url}
    for name, value in (environment | {"METEOR_DATA": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    platform_settings.cache_clear()
    stores, artifacts = open_stores(postgres_url), Artifacts(tmp_path / "artifacts")
    new_job(stores)
    job = stores.jobs.claim("test", 600)
    assert job is not None
    request = StepRequest(kind=StepKind.TEACH, version=1, params={}, rows=[])
    digest = artifacts.put_json(request.model_dump(mode="json"))
    step = stores.steps.create(job, StepKey.parse("distill/silent"), StepKind.TEACH, digest)
    ran_s: list[float] = []

    async def handler(_: StepRequest, __: StepContext) -> StepResult:
        began = time.monotonic()
        with engine_for(postgres_url).connect() as connection:
            connection.execute(select(steps).where(steps.c.id == step.id).with_for_update())  # a renewal waits for this
            try:
                await asyncio.sleep(20)
            finally:
                ran_s.append(time.monotonic() - began)
        raise AssertionError("its lease was over long before")

    StepRunner("test", {StepKind.TEACH: handler}).run(step.id)
    platform_settings.cache_clear()
    assert ran_s[0] < 10


def test_connections_to_the_database_notice_a_dead_peer_and_keep_no_locks(postgres_url: str):
    with reading(engine_for(postgres_url)) as connection:
        driver: Any = connection.connection.dbapi_connection
        asked = driver.info.get_parameters()
        assert {name: int(asked[name]) for name in keepalive.POSTGRES} == keepalive.POSTGRES
        shown = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
    assert shown == f"{IDLE_TRANSACTION_S}s"


def test_a_transaction_that_was_idle_too_long_may_be_tried_again(postgres_url: str):
    engine = engine_for(postgres_url)

    def rest_in_a_transaction() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            time.sleep(0.3)
            connection.execute(select(steps))

    with pytest.raises(UNAVAILABLE):
        rest_in_a_transaction()
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


async def test_a_gateway_stops_in_order_when_its_database_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/ledger.sqlite3")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    platform_settings.cache_clear()
    async with open_gateway({}) as gateway:
        platform_settings.cache_clear()
        with writing(gateway.ledger.engine) as connection:
            gateways.drop(connection)


def test_every_client_of_redis_has_a_bound():
    """A socket_timeout where it waits for an answer, TCP's keepalive where it waits for messages."""
    clients = [
        (path.relative_to(ROOT), call)
        for folder in ("shared", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "redis" in (content := path.read_text())
        for call in ast.walk(ast.parse(content))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).startswith("redis.")
        and "from_url" in ast.unparse(call.func)
    ]
    assert len(clients) >= 6
    for path, call in clients:
        words = {keyword.arg or ast.unparse(keyword.value) for keyword in call.keywords}
        assert words & {"socket_timeout", "keepalive.REDIS"}, f"{path}:{call.lineno}"
