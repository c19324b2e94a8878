"""Real Celery workers on a real broker: what happens to a step from its message to its finished row."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from sqlalchemy import update

from shared.db.engine import writing
from shared.jobs.tables import steps
from tests.fakes.farm import Farm, kill_family, running_farm
from tests.fakes.ports import wait_until
from tests.fakes.valkey import running_valkey


@pytest.fixture
def farm(tmp_path: Path, valkey: str, database_url: str, new_job, monkeypatch) -> Iterator[Farm]:
    with running_farm(Farm(tmp_path / "data", valkey, database_url, new_job), monkeypatch) as farm:
        yield farm


@pytest.fixture
def sqlite_farm(tmp_path: Path, valkey: str, sqlite_url: str, new_job, monkeypatch) -> Iterator[Farm]:
    with running_farm(Farm(tmp_path / "data", valkey, sqlite_url, new_job), monkeypatch) as farm:
        yield farm


def test_steps_run_fail_and_are_tried_again(farm: Farm):
    """One worker with two slots, many fates."""
    farm.worker(2)
    with redis.Redis.from_url(farm.broker) as client, client.pubsub() as hints:
        hints.subscribe("farm:done")
        hints.get_message(timeout=5)
        echoed = farm.step("echo")
        row = farm.wait(echoed, "succeeded")
        hint = hints.get_message(timeout=5)
    assert hint is not None
    assert hint["data"] == echoed.encode()
    result = farm.artifacts.get_json(row.result_ref)
    assert result == {"rows": [{"id": "a"}], "adapter": None, "metrics": {"phase": "distill", "loss": None}}
    assert row.metrics == {"phase": "distill", "loss": None}

    farm.send(echoed)  # a duplicate
    fates = {do: farm.step(do) for do in ("refuse", "stumble", "break", "cancel")}
    refused = farm.wait(fates["refuse"], "failed")
    assert (refused.attempt, refused.error.code, refused.error.param) == (1, "invalid_request", "rows")
    wait_until(lambda: len(farm.row(fates["stumble"]).attempts) == 1, 60, "the first stumble")
    # the three that are tried again become due one after the other
    wait_until(lambda: farm.resend() >= 0 and farm.row(fates["stumble"]).attempt > 1, 60, "a second message")
    stumbled = farm.wait(fates["stumble"], "succeeded")
    assert stumbled.metrics == {"attempt": 2}
    assert stumbled.attempts[0].error.code == "temporarily_unavailable"
    assert not (farm.folder / "scratch" / fates["stumble"]).exists()
    wait_until(lambda: farm.row(fates["break"]).error and farm.row(fates["cancel"]).error, 60, "the other two")
    assert farm.row(fates["break"]).error.message == "KeyError: 'surprise'"
    assert farm.row(fates["cancel"]).error.code == "handler_cancelled"
    assert sum(line.startswith("echo begins") for line in farm.calls()) == 1


def test_a_step_whose_batch_is_computed_rests_without_a_worker_and_goes_on(sqlite_farm: Farm):
    farm = sqlite_farm
    farm.worker()
    resting = farm.step("rest")
    wait_until(lambda: (p := farm.row(resting).progress) is not None and p.unavailable, 60, "the step to rest")
    row = farm.row(resting)
    assert row.progress.waits_for == "a batch is computed"
    assert (row.progress.done, row.progress.total) == (1, 2)
    wait_until(lambda: farm.resend() >= 0 and farm.row(resting).state == "succeeded", 60, "its end")
    row = farm.row(resting)
    assert (row.metrics, row.attempts, row.error) == ({"attempt": 3}, [], None)


def test_cancelling_the_job_stops_a_running_handler_and_its_child(sqlite_farm: Farm):
    farm = sqlite_farm
    worker = farm.worker()
    step = farm.step("child")
    child = psutil.Process(int(farm.wait_for_call("child runs").split()[-1]))
    farm.stores.jobs.cancel(farm.job)
    wait_until(lambda: not child.is_running(), 5, "the end of the child")
    wait_until(lambda: "child cancelled 1" in farm.calls(), 60, "the handler's own end")
    farm.stores.steps.cancel_of_job(farm.job.id)
    assert farm.row(step).state == "cancelled"
    assert worker.poll() is None
    assert not (farm.folder / "scratch" / step).exists()


def test_pausing_the_job_gives_a_running_step_back_as_it_is(farm: Farm):
    farm.worker()
    step = farm.step("child")
    child = psutil.Process(int(farm.wait_for_call("child runs").split()[-1]))
    (farm.folder / "scratch" / step).mkdir(parents=True)
    farm.stores.jobs.pause(farm.job)
    wait_until(lambda: not child.is_running(), 4, "the end of the child")
    wait_until(lambda: farm.row(step).state == "queued", 60, "the step's return")
    assert farm.row(step).attempts == []
    assert (farm.folder / "scratch" / step).exists(), "what it has worked out so far is wanted"
    assert farm.stores.jobs.rest(farm.job)
    farm.send(step)
    time.sleep(1)
    assert farm.row(step).state == "queued", "no step of a paused job begins"
    farm.stores.jobs.resume(farm.job)
    assert farm.stores.jobs.claim("test", 600) is not None
    farm.send(step)
    wait_until(lambda: farm.row(step).attempt == 2, 60, "the second attempt")


def test_a_long_step_outlives_its_first_lease(sqlite_farm: Farm):
    farm = sqlite_farm
    farm.worker()
    step = farm.step("sleep", seconds=5)
    wait_until(
        lambda: (p := farm.row(step).progress) is not None and p.metrics == {"loss": 0.5}, 5, "progress in the row"
    )
    while farm.row(step).state == "running":
        assert farm.stores.steps.reap(3) == []
    assert farm.row(step).metrics == {"attempt": 1}


def test_what_a_worker_without_its_lease_has_begun_elsewhere_is_still_wanted(sqlite_farm: Farm):
    """It woke up too late, say. Its calls to the teacher are paid: the next attempt takes what they bring."""
    farm = sqlite_farm
    farm.worker()
    step = farm.step("sleep")
    farm.wait_for_call("sleep begins 1")
    with writing(farm.stores.steps.engine) as connection:
        connection.execute(update(steps).where(steps.c.id == step).values(attempt=2))
    farm.wait_for_call("sleep cancelled 1, goes on")


def test_a_killed_worker_loses_its_step_to_another(farm: Farm):
    lost = farm.worker()
    step = farm.step("sleep")
    farm.wait_for_call("sleep begins 1")
    kill_family(lost)
    wait_until(lambda: farm.stores.steps.reap(3), 60, "the end of the lease")
    farm.worker()
    assert farm.row(step).state == "queued"
    assert farm.resend() == 1
    row = farm.wait(step, "succeeded")
    assert row.metrics == {"attempt": 2}
    assert row.attempts[0].error.code == "worker_lost"


def test_pool_processes_do_not_outlive_a_killed_main_process(sqlite_farm: Farm):
    """They see the end of the pipe and give their steps back, or are killed first and lose their leases."""
    farm = sqlite_farm
    lost = farm.worker()
    step = farm.step("sleep")
    runner = int(farm.wait_for_call("sleep begins 1").split()[-1])
    lost.kill()
    lost.wait()
    wait_until(lambda: not psutil.pid_exists(runner), 8, "the end of the pool process")
    wait_until(lambda: farm.stores.steps.reap(3) or farm.row(step).state == "queued", 60, "a free step")


def test_a_killed_pool_process_costs_one_attempt_only(sqlite_farm: Farm):
    farm = sqlite_farm
    farm.worker()
    step = farm.step("sleep")
    os.kill(int(farm.wait_for_call("sleep begins 1").split()[-1]), signal.SIGKILL)
    wait_until(lambda: farm.stores.steps.reap(3), 60, "the end of the lease")
    assert farm.resend() == 1
    assert farm.wait(step, "succeeded").metrics == {"attempt": 2}


def test_a_stopping_worker_gives_its_step_back(farm: Farm):
    farm.worker()
    first = farm.workers[0]
    step = farm.step("sleep")
    farm.wait_for_call("sleep begins 1")
    farm.worker()
    first.terminate()
    assert first.wait(10) == 0
    row = farm.row(step)
    assert (row.state, row.attempts) == ("queued", [])
    assert "sleep cancelled 1, goes on" in farm.calls()
    assert not farm.beats(first)
    assert farm.resend() == 1
    assert farm.wait(step, "succeeded").attempt == 2


def test_messages_that_the_broker_lost_are_sent_again(sqlite_farm: Farm):
    farm = sqlite_farm
    steps = [farm.step("echo", number) for number in range(2)]
    with redis.Redis.from_url(farm.broker) as client:
        client.flushall()
    farm.worker()
    wait_until(farm.resend, 60, "steps without a message")

    def all_done() -> bool:
        farm.resend()  # again: one of them may have become old enough a moment after the other
        return all(farm.row(step).state == "succeeded" for step in steps)

    wait_until(all_done, 60, "both steps")


def test_every_pool_process_is_gone_after_an_idle_worker_stops(sqlite_farm: Farm):
    worker = sqlite_farm.worker(2)
    family = psutil.Process(worker.pid).children(recursive=True)
    assert len(family) == 2
    worker.terminate()
    assert worker.wait(10) == 0
    assert not any(process.is_running() for process in family)
    assert sqlite_farm.stores.jobs.live_workers(60) == []


def test_a_worker_survives_a_new_broker(tmp_path: Path, free_port, sqlite_url: str, new_job, monkeypatch):
    """The broker restarts empty under its old address: the worker comes back to it and takes steps again."""
    port = free_port()
    with running_farm(Farm(tmp_path / "data", f"redis://127.0.0.1:{port}/0", sqlite_url, new_job), monkeypatch) as farm:
        with running_valkey(port):
            worker = farm.worker()
        restarted = time.time()
        with running_valkey(port):
            wait_until(lambda: farm.seen_at(worker) > restarted, 60, "a heartbeat after the restart")
            farm.wait(farm.step("echo"), "succeeded")


def test_a_step_survives_cut_connections_to_the_database(
    tmp_path: Path, valkey: str, postgres_url, new_job, monkeypatch
):
    with running_farm(Farm(tmp_path / "data", valkey, postgres_url, new_job), monkeypatch) as farm:
        farm.worker()
        step = farm.step("sleep", seconds=4)
        farm.wait_for_call("sleep begins 1")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            for _ in range(10):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    " AND pid <> pg_backend_pid()"
                )
                time.sleep(0.3)
        row = farm.wait(step, "succeeded")
        assert (row.metrics, row.attempts) == ({"attempt": 1}, [])
