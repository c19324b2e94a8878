"""A real Ray on this machine: a training that began under `local` goes on there, a killed worker's run is met again, a cancelled one ends."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.trainer.launchers.choose import launcher_of
from services.trainer.launchers.port import Launcher, State
from services.trainer.launchers.ray_jobs import RayCluster
from services.trainer.runs import Runs
from services.trainer.settings import TrainerSettings, trainer_settings
from services.trainer.tasks import HANDLERS
from shared.artifacts.objects import Objects
from shared.artifacts.opening import CHECKPOINTS
from shared.contracts.steps import StepRequest, StepResult
from shared.platform.settings import PlatformSettings, platform_settings
from shared.queue.step_task import StepContext
from tests.fakes.ports import free_port, wait_until
from tests.fakes.ray_cluster import MISSING, PATIENT, START_S, program, running_head, takes_jobs
from tests.fakes.remote_steps import attempt, host, request_of
from tests.fakes.start import ROOT
from tests.fakes.tiny_model import make_tiny_llama

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")
if program() is None:
    pytest.skip(MISSING, allow_module_level=True)
pytestmark = [pytest.mark.drill, pytest.mark.timeout(1800)]  # two minutes of processor time
REQUEST, LONG = request_of(epochs=100, copies=2), request_of(epochs=100, copies=40)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("student") / "tiny", seed=1)


@pytest.fixture(scope="module")
def ray(student: Path) -> Iterator[str]:
    """The dashboard's address of a cluster of one machine, whose data folder nobody else uses."""
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    ports = {name: free_port() for name in names}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        environment = os.environ | PATIENT | {
            "METEOR_DATA": f"{folder}/node",
            "METEOR_STUDENT_MODEL": "tiny",
            "METEOR_STUDENT_PATH": str(student),
            "METEOR_TRAINER_THREADS": "1",
            "METEOR_DISK_FLOOR_GB": "0",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        with running_head(Path(folder), environment, ports, ["--num-cpus=2"], "127.0.0.1") as address:
            wait_until(lambda: takes_jobs(address), START_S, "a machine of Ray that takes jobs")
            yield address


@pytest.fixture
def worker(tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlatformSettings]:
    settings = host(tmp_path)
    for name, value in {
        "METEOR_DATA": str(settings.data),
        "METEOR_ARTIFACTS_URL": settings.artifacts_url,
        "METEOR_STUDENT_MODEL": "tiny",
        "METEOR_STUDENT_PATH": str(student),
        "METEOR_TRAINER_THREADS": "1",
        "METEOR_TRAINER_CHECKPOINT_STEPS": "50",
    }.items():
        monkeypatch.setenv(name, value)
    for cached in (platform_settings, trainer_settings):
        cached.cache_clear()
    yield settings
    for cached in (platform_settings, trainer_settings):
        cached.cache_clear()


def launcher(worker: PlatformSettings, address: str = "") -> Launcher:
    kind: dict[str, Any] = (
        {"launcher": "ray", "ray_address": address, "ray_gpus": 0, "ray_python": sys.executable} if address else {}
    )
    chosen = launcher_of(TrainerSettings(**kind), worker, HANDLERS)
    chosen.check()
    return chosen


def begin(chosen: Launcher, context: StepContext, request: StepRequest = REQUEST) -> "asyncio.Task[StepResult]":
    return asyncio.create_task(chosen.run(request, context))


async def until_it_trains(task: "asyncio.Task[StepResult]", context: StepContext, done: int = 1) -> None:
    def trains() -> bool:
        return task.done() or (context.latest is not None and context.latest.done >= done)

    await asyncio.to_thread(wait_until, trains, 600, "a training")
    assert not task.done(), task


async def cancelled(task: "asyncio.Task[StepResult]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def trainings() -> list[psutil.Process]:
    """Of this machine, by Ray."""
    there = []
    for process in psutil.process_iter(["cmdline"]):
        if "services.trainer.remote_step" in (process.info["cmdline"] or []):
            there.append(process)
    return there


async def test_a_training_that_began_here_goes_on_under_ray_and_learns_the_same(ray: str, worker: PlatformSettings):
    """On the way the worker is killed, and the next one meets the run."""
    wanted = await launcher(worker).run(REQUEST, attempt(worker, 1, REQUEST, "step-whole"))
    assert wanted.metrics["resumed_from_step"] == 0

    here = attempt(worker, 1, REQUEST, "step-moves")
    task = begin(launcher(worker), here)
    newest = f"{CHECKPOINTS}/step-moves/1/newest.json"
    await asyncio.to_thread(wait_until, lambda: Objects(worker.artifacts_url).get(newest), 300, "a stored checkpoint")
    await cancelled(task)
    shutil.rmtree(worker.data / "scratch")

    first = attempt(worker, 2, REQUEST, "step-moves")
    killed = begin(launcher(worker, ray), first)
    await until_it_trains(killed, first)
    first.runs_again = first.worker_ends = True  # as SIGKILL: nobody stops the run
    await cancelled(killed)
    second = attempt(worker, 3, REQUEST, "step-moves")
    result = await launcher(worker, ray).run(REQUEST, second)
    assert result.adapter == wanted.adapter, "byte for byte"
    assert result.metrics["resumed_from_step"] >= 50
    assert result.curve == wanted.curve
    settings = TrainerSettings(launcher="ray", ray_address=ray)
    async with RayCluster(settings).open() as cluster:
        assert list(await cluster.submitted("meteor-step-moves-")) == ["meteor-step-moves-1"], "one run, not two"
    second.clear_scratch()
    assert Runs(worker, "step-moves").owner() is None


async def test_a_cancelled_training_ends_there(ray: str, worker: PlatformSettings):
    context = attempt(worker, 1, LONG, "step-cancelled")
    task = begin(launcher(worker, ray), context, LONG)
    await until_it_trains(task, context, 2)
    assert trainings()
    await cancelled(task)
    await asyncio.to_thread(wait_until, lambda: not trainings(), 60, "the end of the training")
    async with RayCluster(TrainerSettings(launcher="ray", ray_address=ray)).open() as cluster:
        status = await cluster.status("meteor-step-cancelled-1")
    assert status is not None
    assert status.state in (State.STOPPED, State.ENDED)
