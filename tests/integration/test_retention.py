"""What is removed from the data folder, and what never is; and steps that wait for room on the disk."""

import asyncio
import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from services.meteor.main import cli
from services.orchestrator import scheduler
from services.orchestrator.runtime import steps as step_runner
from services.orchestrator.runtime.steps import when_disk_has_space
from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.contracts.errors import DiskLow
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepKind, StepRequest, StepResult
from shared.jobs import retention
from shared.jobs.chat_store import ChatFilter
from shared.jobs.records import AuditEntry
from shared.jobs.retention import UnknownData, collect
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, audit, jobs
from shared.platform.settings import platform_settings
from shared.queue.app import celery_app
from shared.queue.step_task import StepRunner
from tests.fakes.ports import wait_until
from tests.fakes.store_moves import HASH_A, HASH_B, claimed, step_of
from tests.fakes.system import System

MONTHS_S = 90 * 86_400.0
SPEC: dict[str, Any] = {"phases": ["distill"], "guidance": "none"}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    return System(tmp_path, monkeypatch)


def age(system: System, *ended: str, began: tuple[str, ...] = ()) -> None:
    """All files were written months ago, and these jobs ended, or began, then."""
    then = time.time() - MONTHS_S
    for folder in (system.artifacts.root, system.settings.serving):
        for path in folder.rglob("*"):
            os.utime(path, (then, then))
    with system.stores.jobs.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id.in_(ended)).values(finished_at=then, created_at=then))
        connection.execute(update(jobs).where(jobs.c.id.in_(began)).values(created_at=then))


def gc(system: System, dry_run: bool = False) -> Any:
    return collect(system.stores.retention, system.artifacts, system.settings, dry_run)


def trained(system: System, job: str) -> set[str]:
    rows = [row for row in system.stores.steps.of_job(job) if row.kind == StepKind.SFT and row.result_ref]
    return {StepResult.model_validate(system.artifacts.get_json(row.result_ref)).trained or "" for row in rows}


def refs(system: System, job: str) -> set[str]:
    return {ref for row in system.stores.steps.of_job(job) for ref in (row.input_hash, row.result_ref) if ref}


def there(system: System) -> set[str]:
    return {path.name for path in system.artifacts.all()}


async def test_the_command_says_what_would_go_and_removes_it(system: System):
    system.fails = lambda key: DiskLow("for once") if key.startswith("evaluate/dev/distill") else None
    async with system.running():
        failed = system.post(system.file(), **SPEC)
        await system.until(failed, "failed")
    age(system, failed)
    before = there(system)
    command = ["gc", "--data", str(system.settings.data)]
    dry = CliRunner().invoke(cli, [*command, "--dry-run"], catch_exceptions=False)
    assert dry.output.startswith("would remove ")
    assert there(system) == before
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.output == dry.output.replace("would remove", "removed")
    assert f"{len(before - there(system))} artifacts" in done.output
    assert before - there(system)


async def test_what_an_old_job_leaves_goes_and_what_anything_needs_stays(system: System):
    """Four old jobs (one whose result is served, one with a version that is not, one that failed, one that is paused) and
    one of today that has taken a part of an old one over."""
    file, worse = system.file(), system.file(train=44)
    async with system.running():
        served = system.post(file, **SPEC)
        await system.until(served, "succeeded")
        version = system.post(worse, suffix="other", seed=1, **SPEC)
        system.world.train = lambda request, before: before
        await system.until(version, "succeeded")
        system.fails = lambda key: DiskLow("for once") if key.startswith("evaluate/dev/distill") else None
        failed = system.post(file, seed=2, **SPEC)
        await system.until(failed, "failed")
        two: dict[str, Any] = SPEC | {"phases": ["distill", "iterate"]}
        paused = system.post(file, seed=3, pause_after="distill", **two)
        system.fails = lambda key: None
        await system.until(paused, "paused")
        today = system.post(
            worse, "other", 1, distill={"learning_rate": 1e-3}, **SPEC
        )  # the same answers, another student
        await system.until(today, "succeeded")
    assert any(row.reused_from for row in system.stores.steps.of_job(today))
    reports = {system.row(job).report_ref for job in (served, version)}
    needed = refs(system, served) | refs(system, paused) | refs(system, today) | reports
    adapters = trained(system, served) | trained(system, paused) | trained(system, today) | trained(system, version)
    lost = trained(system, failed) - adapters
    goes = refs(system, failed) - needed
    assert lost
    assert goes
    (system.artifacts.root / ".tmp-killed").touch()
    age(system, served, version, failed, began=(paused,))
    before = there(system)
    dry = gc(system, dry_run=True)
    assert there(system) == before
    collected = gc(system)
    assert vars(collected) == vars(dry) | {"steps": collected.steps}
    assert collected.steps == dry.steps > 0
    left = there(system)
    assert needed | adapters <= left
    assert not goes & left
    assert not lost & left
    assert not any((system.settings.serving / name).exists() for name in lost)
    assert all((system.settings.serving / name).is_dir() for name in adapters if name)
    assert not list(system.artifacts.root.rglob(".tmp-*"))
    for row in system.stores.catalog.models(DEFAULT_PROJECT):
        system.artifacts.folder(row[0].adapter)
    again = gc(system)
    assert again.removed == 0
    async with system.running():  # everything that lives goes on
        system.stores.jobs.resume(system.row(paused))
        await system.until(paused, "succeeded")
        calls = system.calls(failed)
        anew = system.post(file, seed=2, **SPEC)
        await system.until(anew, "succeeded")
    assert calls > 0
    assert system.calls(anew) == 0, "the answers that were paid for are in the ledger"
    assert system.ran[anew], "the results were let go of"


def test_what_a_running_job_shows_its_teacher_and_runs_queries_on_stays(system: System):
    """A job may run for longer than an artifact may lie about unnamed."""
    body, uploaded, old = b"a text of the body", b"a file that was uploaded", b"nothing names it"
    names = {content: system.artifacts.put(content) for content in (body, uploaded, old)}
    system.settings.files.mkdir(parents=True, exist_ok=True)
    (system.settings.files / names[uploaded]).write_bytes(uploaded)
    file_id = system.stores.catalog.add_file(
        DEFAULT_PROJECT,
        sha256=names[uploaded],
        bytes=1,
        filename="f",
        purpose="user_data",
        status="processed",
        errors=[],
    ).id
    job = system.post(system.file(), teacher={"context": [body.decode(), file_id]}, **SPEC)
    age(system, began=(job,))
    gc(system)
    assert names[old] not in there(system)
    assert {names[body], names[uploaded]} <= there(system)
    age(system, job)
    with system.stores.jobs.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(status="cancelled"))
    gc(system)
    assert names[body] not in there(system)


async def test_another_systems_artifacts_are_left_alone(system: System, tmp_path: Path):
    system.artifacts.put_json({"of": "somebody else"})
    age(system)
    with pytest.raises(UnknownData, match="DATABASE_URL"):
        gc(system)
    system.settings.retention = system.settings.retention * 0
    assert gc(system) is None
    assert len(there(system)) == 1


def test_old_entries_of_the_audit_log_go(system: System):
    for request in ("young", "old"):
        system.stores.audit.add(DEFAULT_PROJECT, AuditEntry("operator", "POST", "/v1/files", None, 200, request))
    aged = time.time() - system.settings.audit_retention.total_seconds() - 60
    with system.stores.jobs.engine.begin() as connection:
        values = {"id": f"audit-{int(aged * 1000):012x}" + "0" * 20, "created_at": aged}
        connection.execute(update(audit).where(audit.c.request_id == "old").values(**values))

    def left() -> list[str]:
        return [row.request_id for row in system.stores.audit.page(None, None, 10)[0]]

    command = ["gc", "--data", str(system.settings.data)]
    dry = CliRunner().invoke(cli, [*command, "--dry-run", "--json"], catch_exceptions=False)
    assert json.loads(dry.output)["audit_entries"] == 1
    assert sorted(left()) == ["old", "young"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.output.startswith("1 entries of the audit log removed")
    assert left() == ["young"]
    settings = system.settings.model_copy(update={"audit_retention": timedelta(0)})
    assert retention.prune_audit(system.stores.retention, settings) == 0
    assert (
        retention.prune_audit(
            system.stores.retention, system.settings.model_copy(update={"audit_retention": timedelta.resolution})
        )
        == 1
    )


async def test_the_orchestrator_prunes_the_audit_log(system: System):
    system.settings.audit_retention = timedelta.resolution
    system.stores.audit.add(DEFAULT_PROJECT, AuditEntry("operator", "POST", "/v1/files", None, 200, "req-1"))
    async with system.running():
        await asyncio.to_thread(wait_until, lambda: not system.stores.audit.page(None, None, 10)[0])


def stored_chat(system: System, name: str, created_at: float) -> None:
    row = {
        "id": f"chatcmpl-{name}", "project_id": DEFAULT_PROJECT, "alias": "a", "version": 1, "model": "a", "user": None,
        "safety_identifier": None, "request": {}, "answer": {}, "metadata": {}, "bytes": 4, "masked": None, "request_id": "r",
        "created_at": created_at,
    }  # fmt: skip
    system.stores.chats.add([row])


async def test_old_chats_go_by_the_command_and_by_the_orchestrator(system: System):
    def left() -> list[str]:
        return [one.chat.id for one in system.stores.chats.judged(DEFAULT_PROJECT, ChatFilter())]

    def counted(*options: str) -> Any:
        run = CliRunner().invoke(cli, ["gc", "--data", str(system.settings.data), "--json", *options])
        return json.loads(run.output)["stored_chats"]

    stored_chat(system, "old", time.time() - 31 * 86_400)
    stored_chat(system, "young", time.time() - 29 * 86_400)
    forever = system.settings.model_copy(update={"chat_retention": timedelta(0)})
    assert retention.prune_chats(system.stores.chats, forever) == 0
    assert (counted("--dry-run"), left()) == (1, ["chatcmpl-old", "chatcmpl-young"])
    assert (counted(), left()) == (1, ["chatcmpl-young"])
    system.settings.chat_retention = timedelta(days=28)
    async with system.running():
        await asyncio.to_thread(wait_until, lambda: not left(), 60)


def test_what_is_put_again_counts_as_new(artifacts: Artifacts, tmp_path: Path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "w").write_text("x")
    for put in (lambda: artifacts.put_json([1]), lambda: artifacts.put_folder(tmp_path / "made")):
        digest = put()
        (path,) = (path for path in artifacts.all() if path.name == digest)
        os.utime(path, (0, 0))
        before = time.time() - 60
        assert retention._size_if_old(path, before) is not None
        put()  # between the look and the removal
        assert not retention._removed(path, before)
        assert path.exists()
        os.utime(path, (0, 0))
        assert retention._removed(path, before)
        assert not path.exists()
        assert put() == digest
        assert path.exists()


def test_a_result_that_is_just_taken_over_is_needed(stores: Stores, new_job):
    """The collector comes while another job's step is being made out of an old one."""
    first, second = new_job(stores), new_job(stores)
    assert stores.steps.finish(claimed(stores, first, input_hash=HASH_A), HASH_B, {})
    stores.jobs.cancel(first)
    seen: list[set[str]] = []

    def collector() -> None:
        stores.retention.expire_results(time.time() + 60)
        seen.append(stores.retention.needed(time.time() + 60).contents)

    thread = threading.Thread(target=collector)

    def still_there(_: Any) -> bool:
        thread.start()
        time.sleep(0.4)
        return True

    row = stores.steps.create(second, StepKey.parse("k"), StepKind.TEACH, HASH_A, still_there)
    thread.join()
    assert row.result_ref == HASH_B
    assert HASH_B in seen[0]
    third = step_of(stores, new_job(stores))
    assert third.reused_from == row.id, "the old one is not taken over any more"


# reading and room


def test_a_folder_that_was_changed_is_noticed_when_it_is_read(artifacts: Artifacts, tmp_path: Path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "weights").write_bytes(b"1234")
    digest = artifacts.put_folder(made)
    weights = artifacts.folder(digest) / "weights"
    stat = weights.stat()
    weights.write_bytes(b"1235")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for reader in (artifacts, Artifacts(artifacts.root)):
        with pytest.raises(ArtifactMissing, match="changed on disk"):
            reader.folder(digest)
    weights.write_bytes(b"1234")
    assert artifacts.folder(digest) == weights.parent


def test_nothing_is_written_where_less_is_free_than_stays_free(tmp_path: Path):
    roomy, full = Artifacts(tmp_path / "a"), Artifacts(tmp_path / "a", floor=10**18)
    kept = roomy.put_json([1])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "w").touch()
    for write in (lambda: full.put_json([2]), lambda: full.put_rows([2]), lambda: full.put_folder(tmp_path / "made")):
        with pytest.raises(DiskLow, match="METEOR_DISK_FLOOR_GB"):
            write()
    assert full.put_json([1]) == kept, "it is there already"
    assert full.get_json(kept) == [1]
    assert {path.name for path in roomy.all()} == {kept}


@pytest.fixture
def runner(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch):
    """A worker in this process: call it with the floor in GB."""
    monkeypatch.setenv("METEOR_DATA", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", valkey)

    async def echo(request: StepRequest, context: Any) -> StepResult:
        return StepResult(rows=request.rows)

    def made(floor_gb: float) -> StepRunner:
        monkeypatch.setenv("METEOR_DISK_FLOOR_GB", str(floor_gb))
        platform_settings.cache_clear()
        return StepRunner("test", {StepKind.TEACH: echo})

    yield made
    platform_settings.cache_clear()
    celery_app.cache_clear()


def test_a_step_waits_for_room_without_failing(runner, tmp_path: Path, new_job, monkeypatch: pytest.MonkeyPatch):
    from shared.jobs.schema import open_stores

    stores = open_stores(f"sqlite:///{(tmp_path / 'meteor.sqlite3').resolve()}")
    job = new_job(stores)
    stores.jobs.claim("o", 600)
    request = StepRequest(kind=StepKind.TEACH, version=1, params={}, rows=[{"id": "a"}])
    digest = Artifacts(tmp_path / "artifacts").put_json(request.model_dump(mode="json"))
    step: Any = stores.steps.create(job, StepKey.parse("k"), StepKind.TEACH, digest)
    for _ in range(6):  # more often than there are attempts
        runner(10**9).run(step.id)
        row: Any = stores.steps.get(step.id)
        assert (row.state, row.attempts, row.lease_owner) == ("queued", [], None)
        assert row.not_before > time.time() + 10
        assert "METEOR_DISK_FLOOR_GB" in row.progress.waits_for
        assert stores.steps.claim(step.id, "w", 60) is None
        with stores.steps.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE steps SET not_before = 0, created_at = 0")
        assert stores.steps.unsent(30) == [(step.id, Queue.STRONG)], "nobody would send it again"
    runner(0).run(step.id)
    ended = stores.steps.get(step.id)
    assert ended is not None
    assert ended.state == "succeeded"


async def test_the_orchestrator_waits_for_room_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_runner, "DISK_RETRY_S", 0.01)
    said: list[Progress] = []
    tries = iter([DiskLow("0.1 GB are free"), DiskLow("0.2 GB are free"), None])

    def write() -> str:
        error = next(tries)
        if error is not None:
            raise error
        return "written"

    assert await when_disk_has_space(write, said.append) == "written"
    assert [progress.waits_for for progress in said] == [f"room on the disk: 0.{n} GB are free" for n in (1, 2)]
