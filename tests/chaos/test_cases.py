"""What a drill does not strike: a provider that does wrong, a broker that forgets, messages twice and out of order, a clock
that is set back, a full disk. Each in the middle of a job. Part of `make chaos`, not of `make test`."""

import contextlib
import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.contracts.steps import Queue
from shared.jobs.states import FINAL_JOBS, StepState
from shared.platform.settings import platform_settings
from shared.queue.app import celery_app, send
from tests.chaos import checks
from tests.chaos.drill import Plan, job_status, open_calls, post, standing
from tests.chaos.fleet import Fleet
from tests.chaos.jobs import SHORT
from tests.chaos.outcome import Outcome, collect
from tests.fakes.ports import wait_until
from tests.fakes.start import FakeServer
from tests.fakes.tiny_model import make_tiny_llama

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
JOB = SHORT | {"distill": SHORT["distill"] | {"questions": 48}}  # so many that a fifth of the calls is some
PLAN = Plan(seed=7, kills=0, questions=100, job=JOB, teacher_s=0.5, engine_s=0.1)
IMPATIENT = {  # so that what hangs is given up within the test
    "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT3S",
    "METEOR_STRONG_DEADLINE": "PT30S",
    "METEOR_STRONG_BACKOFF": "PT0.1S",
    "METEOR_STRONG_MAX_BACKOFF": "PT1S",
}
SETBACK_S = 20.0
DISK, FLOOR = "96m", {"METEOR_DISK_FLOOR_GB": "0.004"}
END_S = 300.0


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="module")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory, student: Path) -> Iterator[tuple[Fleet, FakeServer]]:
    with standing(replace(PLAN, environment=IMPATIENT), tmp_path_factory.mktemp("cases"), student) as fleet:
        yield fleet


@pytest.fixture
def standing_fleet(shared_fleet: tuple[Fleet, FakeServer]) -> Iterator[tuple[Fleet, FakeServer]]:
    yield shared_fleet
    shared_fleet[1].heal()
    shared_fleet[1].latency(PLAN.teacher_s)


def job_with(
    fleet: Fleet, teacher: FakeServer, name: str, meanwhile: Callable[[str], None], during: str = "distill/answers"
) -> Outcome:
    """A job on questions of its own. meanwhile: called with its id while steps run whose keys begin with `during`."""
    job_id = post(fleet, PLAN, name)
    wait_until(lambda: running(fleet, job_id, during), 120, "the teacher's part")
    meanwhile(job_id)
    wait_until(lambda: job_status(fleet, job_id) in FINAL_JOBS, END_S, "the job's end")
    job = fleet.stores.jobs.get(job_id)
    assert job is not None
    assert job.status == "succeeded", job.error
    wait_until(lambda: open_calls(fleet) == 0, 30, "the settling of the last calls")
    return collect(fleet, job_id, [entry for entry in teacher.log() if asked_by(entry) in (name, None)])


def asked_by(entry: dict[str, Any]) -> str | None:
    """The name of the job whose question a request has; None for the checks when a job was posted, which have none."""
    question = re.search(r"(\S+): which number comes after", str(entry["messages"]))
    return question and question[1]


def running(fleet: Fleet, job_id: str, beginning: str) -> bool:
    rows = fleet.stores.steps.of_job(job_id)
    return any(row.key.startswith(beginning) and row.state == StepState.RUNNING for row in rows)


def assert_whole(outcome: Outcome) -> None:
    """Every example once, every call that arrived on the ledger, nothing paid for twice, nothing held."""
    assert outcome.report["phases"]["distill"]["kept"] == JOB["distill"]["questions"]
    assert checks.once(outcome) + checks.ledger(outcome, []) + checks.released(outcome) == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [("429", {"retry_after": 0.5}), ("500", {"rate": 0.2}), ("hang", {"rate": 0.2}), ("cut_stream", {"rate": 0.2}),
     ("huge", {"rate": 0.2})],
)  # fmt: skip
def test_a_provider_that_does_wrong_for_a_while_costs_time_and_no_answer(standing_fleet, kind: str, options: dict):
    """429 to every request for six seconds (a minute at a tenth of the usual pauses), the others to a fifth of them, always."""
    fleet, teacher = standing_fleet
    teacher.fault(kind, **options)

    def wrong(_: str) -> None:
        if kind == "429":
            time.sleep(6)
            teacher.heal()

    outcome = job_with(fleet, teacher, f"provider-{kind}", wrong, "pilot/guided/answers")
    assert_whole(outcome)
    assert any(entry["fault"] == kind for entry in outcome.log), "the fault met no request"


def test_a_broker_that_forgets_everything_loses_no_step(standing_fleet):
    fleet, teacher = standing_fleet

    def forget(_: str) -> None:
        with redis.Redis.from_url(fleet.children["gateway"].spec.env["REDIS_URL"]) as client:
            for _time in range(5):
                client.flushall()
                time.sleep(0.5)

    assert_whole(job_with(fleet, teacher, "flushed", forget))


def test_messages_twice_and_out_of_order_change_nothing(standing_fleet, monkeypatch: pytest.MonkeyPatch):
    fleet, teacher = standing_fleet
    monkeypatch.setenv("REDIS_URL", fleet.children["gateway"].spec.env["REDIS_URL"])
    platform_settings.cache_clear()
    celery_app.cache_clear()
    dice = random.Random(7)

    def again(job_id: str) -> None:
        while running(fleet, job_id, "distill"):
            rows = 2 * fleet.stores.steps.of_job(job_id)
            for row in dice.sample(rows, len(rows)):
                send(row.id, Queue(row.queue))
            time.sleep(0.5)

    try:
        outcome = job_with(fleet, teacher, "twice", again)
    finally:
        celery_app().close()
        platform_settings.cache_clear()
        celery_app.cache_clear()
    assert_whole(outcome)
    assert {step.row["attempt"] for step in outcome.steps.values()} <= {0, 1}  # 0: taken over from another step


def test_a_clock_that_is_set_back_delays_a_lost_step_and_no_more(tmp_path: Path, student: Path):
    """All processes' clocks, just after a worker was killed: its lease ends so much later."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    environment = {"DRILL_CLOCK": str(clock), "PYTHONPATH": str(Path(__file__).parent / "clock")}
    with standing(replace(PLAN, environment=environment, teacher_s=2.0), tmp_path / "data", student) as (
        fleet,
        teacher,
    ):

        def set_back(_: str) -> None:
            fleet.kill("strong-worker")
            fresh = tmp_path / "fresh"
            fresh.write_text(str(-SETBACK_S))
            fresh.replace(clock)

        outcome = job_with(fleet, teacher, "clock", set_back)
    assert_whole(outcome)
    assert any(step.row["attempt"] > 1 for step in outcome.steps.values()), "the kill hit no running step"


@contextlib.contextmanager
def small_disk(folder: Path) -> Generator[Path]:
    """A disk of DISK in memory. Skips where the machine gives us none."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_the_job_until_there_is_room_again(tmp_path: Path, student: Path):
    with (
        small_disk(tmp_path / "disk") as disk,
        standing(replace(PLAN, environment=IMPATIENT | FLOOR), disk / "data", student) as (fleet, teacher),
    ):

        def full(_: str) -> None:
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            time.sleep(8)
            filler.unlink()

        outcome = job_with(fleet, teacher, "disk", full)
        left = checks.tidy(fleet.data)
    assert_whole(outcome)
    assert left == []
