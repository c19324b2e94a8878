"""Steps on a Ray cluster: submitted once, followed, stopped, met again. The Jobs API is a real HTTP server that starts nothing; the tests play
the machine. tests/integration/test_ray.py has a real Ray."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from services.trainer import remote_step
from services.trainer.launchers import on_cluster
from services.trainer.launchers.choose import launched, launcher_of
from services.trainer.launchers.local import Local
from services.trainer.launchers.on_cluster import OnCluster
from services.trainer.launchers.port import COMPUTE
from services.trainer.runs import Ended, Owner, Run, Runs
from services.trainer.settings import TrainerSettings
from services.trainer.spec import Failed
from services.trainer.tasks import HANDLERS
from shared.artifacts.objects import Objects, ObjectsUnavailable
from shared.artifacts.remote import Remote
from shared.contracts.errors import DiskLow, FatalError, MeteorError, Postponed, TransientError, UserError
from shared.contracts.steps import Progress, StepKind, StepRequest, StepResult
from shared.platform import file_lock
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import Handler, StepContext
from tests.fakes.on_a_thread import on_a_thread
from tests.fakes.ports import free_port, wait_until
from tests.fakes.ray_jobs import Job, RayJobsServer, ray_jobs
from tests.fakes.remote_steps import STEP, attempt, host, request_of

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")
FIRST, SECOND = f"meteor-{STEP}-1", f"meteor-{STEP}-2"
RESULT = StepResult(adapter="a" * 64, metrics={"loss": 0.5})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (on_cluster, "LOOK_S", 0.02),
        (on_cluster, "BEAT_S", 0.02),
        (remote_step, "LOOK_S", 0.02),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="module")
def one_server() -> Iterator[RayJobsServer]:
    with ray_jobs() as server:
        yield server


@pytest.fixture
def ray(one_server: RayJobsServer) -> RayJobsServer:
    one_server.jobs.clear()
    one_server.token, one_server.broken, one_server.stays = "", False, False
    one_server.refuses = 0
    one_server.listed.clear()
    return one_server


@pytest.fixture
def worker(tmp_path: Path) -> PlatformSettings:
    return host(tmp_path)


def launcher(ray: RayJobsServer, platform: PlatformSettings, **more: Any) -> OnCluster:
    settings = TrainerSettings(launcher="ray", ray_address=ray.url, **more)
    chosen = launcher_of(settings, platform, HANDLERS)
    assert isinstance(chosen, OnCluster)
    return chosen


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition)


def finish(runs: Runs, run: str, context: StepContext, ray: RayJobsServer, result: StepResult = RESULT) -> None:
    """As a machine of the cluster does."""
    runs.end(run, Ended(result=context.artifacts.put_json(result.model_dump(mode="json"))))
    ray.jobs[run].status = "SUCCEEDED"


async def follow(
    ray: RayJobsServer, platform: PlatformSettings, number: int = 1, run: str = FIRST
) -> tuple["asyncio.Task[StepResult]", StepContext]:
    """An attempt that runs, once its run has an owner in it."""
    context = attempt(platform, number)
    task = asyncio.create_task(launcher(ray, platform).run(request_of(), context))

    def is_followed() -> bool:
        owner = Runs(platform, STEP).owner()
        return task.done() or (run in ray.jobs and owner is not None and (owner.attempt, owner.run) == (number, run))

    await until(is_followed)
    return task, context


async def cancelled(task: "asyncio.Task[StepResult]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_step_is_submitted_followed_and_returned(
    ray: RayJobsServer, worker: PlatformSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("METEOR_INTERNAL_TOKEN", "a-secret")
    ray.token = "of-the-cluster"
    context, runs = attempt(worker, 1), Runs(worker, STEP)
    chosen = launcher(ray, worker, ray_token="of-the-cluster", ray_gpus=2, ray_cpus=3, checkpoint_steps=7, fsdp=True)
    task = asyncio.create_task(chosen.run(request_of(), context))
    await until(lambda: context.latest is not None)
    assert context.latest is not None
    assert "Job has not started yet" in str(context.latest.waits_for)
    body = ray.jobs[FIRST].body
    assert (body["entrypoint_num_gpus"], body["entrypoint_num_cpus"]) == (2, 3)
    told = body["runtime_env"]["env_vars"]
    assert (told["METEOR_ARTIFACTS_URL"], told["METEOR_TRAINER_PROCESSES"]) == (worker.artifacts_url, "2")
    assert told["METEOR_DEVICE_SHARING"] == "memory", "there is no engine to borrow a device from"
    assert (told["METEOR_TRAINER_CHECKPOINT_STEPS"], told["METEOR_TRAINER_GPUS"]) == ("7", "")
    assert told["METEOR_TRAINER_FSDP"] == "true"
    assert "METEOR_TRAINER_PADDING_FREE" not in told, "what is not set is the cluster's own affair"
    assert TrainerSettings(checkpoint_every=told["METEOR_TRAINER_CHECKPOINT_EVERY"]).checkpoint_every.seconds == 60
    assert "a-secret" not in str(body)
    assert "of-the-cluster" not in str(body)
    *command, run = shlex.split(body["entrypoint"])
    assert command == ["python", "-m", "services.trainer.remote_step"]
    assert Run.model_validate_json(run).claim == context.claim

    ray.jobs[FIRST].status = "RUNNING"
    runs.report(FIRST, Progress(done=3, total=8, metrics={"loss": 1.5}, eta_seconds=4.0))
    await until(lambda: context.latest is not None and context.latest.done == 3)
    finish(runs, FIRST, context, ray)
    assert await task == RESULT
    context.clear_scratch()
    assert runs.owner() is None, "nothing is left with the step's checkpoints"


async def test_another_worker_meets_the_run_of_one_that_was_killed(
    ray: RayJobsServer, worker: PlatformSettings, tmp_path: Path
):
    """No second training beside it; and the first worker, which wakes up, ends nothing."""
    first, _ = await follow(ray, worker)
    ray.jobs[FIRST].status = "RUNNING"
    second, context = await follow(ray, host(tmp_path, "other"), 2)
    with pytest.raises(TransientError, match="newer attempt"):
        await first
    assert list(ray.jobs) == [FIRST]
    finish(Runs(worker, STEP), FIRST, context, ray)
    assert await second == RESULT
    assert ray.jobs[FIRST].stops == 0


async def test_a_result_that_came_while_nobody_followed_is_taken(ray: RayJobsServer, worker: PlatformSettings):
    """The worker was killed; the cluster has even forgotten the run."""
    context, runs = attempt(worker, 2), Runs(worker, STEP)
    runs.own(Owner(attempt=1, run=FIRST))
    ray.jobs[FIRST] = _job(FIRST)
    finish(runs, FIRST, context, ray)
    ray.jobs.clear()
    assert await launcher(ray, worker).run(request_of(), context) == RESULT
    assert not ray.jobs


async def test_only_a_final_failure_of_an_earlier_run_is_taken(ray: RayJobsServer, worker: PlatformSettings):
    """The worker was killed before it read how the run ended."""
    runs = Runs(worker, STEP)
    runs.own(Owner(attempt=1, run=FIRST))
    runs.end(FIRST, Ended(failed=Failed.of(UserError("no rows", code="no_rows"))))
    with pytest.raises(UserError, match="no rows"):
        await launcher(ray, worker).run(request_of(), attempt(worker, 2))
    assert not ray.jobs, "it would fail again"
    runs.end(FIRST, Ended(failed=Failed.of(TransientError("out of memory"))))
    task, _ = await follow(ray, worker, 3, SECOND)
    await cancelled(task)


def _job(run: str, status: str = "RUNNING") -> Job:
    return Job({"submission_id": run, "entrypoint": ""}, status)


async def test_a_cancelled_step_is_stopped_and_a_later_run_begins_when_it_has_ended(
    ray: RayJobsServer, worker: PlatformSettings, monkeypatch: pytest.MonkeyPatch
):
    task, _ = await follow(ray, worker)
    ray.jobs[FIRST].status = "RUNNING"
    await cancelled(task)
    assert (ray.jobs[FIRST].stops, ray.jobs[FIRST].status) == (1, "STOPPED")
    owner = Runs(worker, STEP).owner()
    assert owner is not None
    assert owner.run is None, "the run ends by itself where the cluster cannot be asked"

    ray.jobs[FIRST].status, ray.stays = "RUNNING", True  # it takes its time
    task = asyncio.create_task(launcher(ray, worker).run(request_of(), attempt(worker, 2)))
    await until(lambda: ray.jobs[FIRST].stops == 2)
    assert list(ray.jobs) == [FIRST]
    ray.jobs[FIRST].status = "STOPPED"
    await until(lambda: SECOND in ray.jobs)
    ray.stays = False
    await cancelled(task)


async def test_a_worker_that_ends_leaves_the_run_to_the_next_one(ray: RayJobsServer, worker: PlatformSettings):
    task, context = await follow(ray, worker)
    context.runs_again = context.worker_ends = True
    await cancelled(task)
    assert ray.jobs[FIRST].stops == 0
    task, context = await follow(ray, worker, 2)
    context.runs_again = True  # the job pauses
    await cancelled(task)
    assert ray.jobs[FIRST].stops == 1


async def test_of_two_workers_that_submit_at_once_one_does(ray: RayJobsServer, worker: PlatformSettings):
    """The second one had listed the cluster's jobs before the first one submitted."""
    ray.jobs[SECOND] = _job(SECOND, "FAILED")
    other = launcher(ray, worker)
    async with other.clusters.open() as cluster:
        await cluster.submit(other._submission(attempt(worker, 1), StepKind.SFT)._replace(id=SECOND))
    assert ray.jobs[SECOND].status == "FAILED", "it is what it was"


async def test_a_run_that_dies_is_submitted_again_by_the_next_attempt(ray: RayJobsServer, worker: PlatformSettings):
    task, _ = await follow(ray, worker)
    ray.jobs[FIRST].status, ray.jobs[FIRST].message = "FAILED", "Job supervisor actor died"
    ray.jobs[FIRST].logs = "No module named services"
    with pytest.raises(TransientError, match="actor died") as caught:
        await task
    assert caught.value.code == "training_process_lost"
    kept = worker.data / "logs" / f"trainer-{STEP}.log"
    assert kept.read_text() == "No module named services"
    assert str(kept) in caught.value.message

    task, _ = await follow(ray, worker, 2, SECOND)
    ray.jobs[SECOND].status, ray.jobs[SECOND].error_type = "FAILED", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
    with pytest.raises(Postponed, match="no room"):
        await task


@pytest.mark.parametrize("error", [UserError("u", code="no_rows"), FatalError("f"), DiskLow("d"), TransientError("t")])
async def test_an_error_of_the_machine_is_the_steps(ray: RayJobsServer, worker: PlatformSettings, error: MeteorError):
    task, _ = await follow(ray, worker)
    Runs(worker, STEP).end(FIRST, Ended(failed=Failed.of(error)))
    with pytest.raises(type(error)) as caught:
        await task
    assert (type(caught.value), caught.value.code) == (type(error), error.code)


async def test_a_cluster_that_is_away_costs_no_attempt(
    ray: RayJobsServer, worker: PlatformSettings, monkeypatch: pytest.MonkeyPatch
):
    ray.broken = True
    with pytest.raises(Postponed, match=r"answers with 500"):
        await launcher(ray, worker).run(request_of(), attempt(worker, 1))
    ray.broken = False
    task, context = await follow(ray, worker, 2)
    ray.broken = True
    await asyncio.sleep(0.1)
    assert not task.done(), "it is waited for"
    ray.broken = False
    finish(Runs(worker, STEP), FIRST, context, ray)
    assert await task == RESULT


@pytest.mark.parametrize(
    ("status", "family"), [(400, FatalError), (422, FatalError), (401, Postponed), (403, Postponed), (503, Postponed)]
)
async def test_only_an_invalid_submission_fails_the_step(
    ray: RayJobsServer, worker: PlatformSettings, status: int, family: type[MeteorError]
):
    ray.refuses = status
    with pytest.raises(family, match="entrypoint_num_gpus must be a number") as caught:
        await launcher(ray, worker).run(request_of(), attempt(worker, 1))
    assert caught.value.code == ("ray_refused" if family is FatalError else "cluster_unavailable")


async def test_jobs_of_others_and_unknown_states_disturb_nothing(ray: RayJobsServer, worker: PlatformSettings):
    ray.listed.append({"submission_id": "somebody-elses", "status": None, "message": 7})
    task, context = await follow(ray, worker)
    ray.jobs[FIRST].status = "RESUMING"
    await asyncio.sleep(0.1)
    assert not task.done(), "a state that this version does not know counts as running"
    finish(Runs(worker, STEP), FIRST, context, ray)
    assert await task == RESULT


async def test_an_answer_of_another_form_costs_no_attempt(ray: RayJobsServer, worker: PlatformSettings):
    no_text: Any = None
    ray.jobs[FIRST] = _job(FIRST, no_text)
    with pytest.raises(Postponed, match="status: Input should be a valid string"):
        await launcher(ray, worker).run(request_of(), attempt(worker, 1))


def test_an_older_attempt_does_not_replace_a_newer_ones_owner(
    worker: PlatformSettings, monkeypatch: pytest.MonkeyPatch
):
    """The newer one takes the step after the older one has looked and before it writes."""
    runs, put = Runs(worker, STEP), Objects.put

    def late(objects: Objects, key: str, content: bytes) -> None:
        monkeypatch.setattr(Objects, "put", put)
        assert runs.own(Owner(attempt=2, run=FIRST))
        put(objects, key, content)

    assert runs.own(Owner(attempt=1, run=FIRST))
    monkeypatch.setattr(Objects, "put", late)
    runs.own(Owner(attempt=1, run=None))
    assert runs.owner() == Owner(attempt=2, run=FIRST)
    assert not runs.own(Owner(attempt=1, run=None))
    for number in range(3, 9):
        assert runs.own(Owner(attempt=number, run=FIRST))
        owner = runs.owner()
        assert owner is not None
        assert owner.attempt == number
    assert len(runs._attempts()) <= 3, "a step that rests often does not collect them"


def test_what_is_wrong_is_said_at_the_start(ray: RayJobsServer, worker: PlatformSettings, tmp_path: Path):
    launcher(ray, worker).check()
    for address, platform, said in (
        ("", worker, "METEOR_TRAINER_RAY_ADDRESS is not set"),
        (f"http://127.0.0.1:{free_port()}", worker, "does not answer"),
        (ray.url, PlatformSettings(data=tmp_path, artifacts_url=""), "METEOR_ARTIFACTS_URL"),
    ):
        chosen = launcher_of(TrainerSettings(launcher="ray", ray_address=address), platform, HANDLERS)
        with pytest.raises(FatalError, match=said) as caught:
            chosen.check()
        assert caught.value.code == "ray_unavailable"
    ray.token = "of-the-cluster"
    with pytest.raises(FatalError, match="METEOR_TRAINER_RAY_TOKEN"):
        launcher(ray, worker).check()
    with on_a_thread(Starlette()) as other, pytest.raises(FatalError, match=r"ray\[default\]"):
        launcher_of(TrainerSettings(launcher="ray", ray_address=other), worker, HANDLERS).check()


@pytest.mark.parametrize("url", ["engine:8102", "ftp://engine:8102", "http://user:a-secret@engine:8102"])
def test_a_control_url_is_an_http_url_without_credentials(url: str):
    assert TrainerSettings(engine_control_url="http://engine:8102/").engine_control_url == "http://engine:8102"
    with pytest.raises(ValueError, match=r"control port|credentials") as caught:
        TrainerSettings(engine_control_url=url)
    assert "a-secret" not in str(caught.value)


def test_a_run_is_not_abandoned_before_its_worker_can_return():
    with pytest.raises(ValueError, match="ray_abandoned_after"):
        TrainerSettings(ray_abandoned_after=timedelta(minutes=1))


@pytest.mark.parametrize("address", ["ray://head:10001", "head:6379", "http://user:pass@head:8265", "auto"])
def test_an_address_of_another_protocol_is_refused(address: str):
    with pytest.raises(ValueError, match=r"dashboard|credentials"):
        TrainerSettings(ray_address=address)


def test_only_what_computes_goes_to_the_cluster(ray: RayJobsServer, worker: PlatformSettings):
    chosen = launcher(ray, worker)
    table = launched(HANDLERS, chosen)
    assert {kind for kind, handler in table.items() if handler == chosen.run} == set(COMPUTE)
    assert table[StepKind.PUSH] is HANDLERS[StepKind.PUSH]


async def test_conversions_stay_one_at_a_time_beside_several_steps_on_the_cluster(
    ray: RayJobsServer, worker: PlatformSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(file_lock, "LOOK_S", 0.01)
    contexts = [attempt(worker, 1, step=f"step-{number}") for number in range(3)]
    running, most, waited = [], [], set()

    async def converts(request: StepRequest, context: StepContext) -> StepResult:
        running.append(context)
        await asyncio.sleep(0.05)
        most.append(len(running))
        waited.update(other.latest.waits_for for other in contexts if other.latest is not None)
        running.remove(context)
        return RESULT

    handlers: dict[StepKind, Handler] = {StepKind.GGUF: converts, StepKind.PUSH: converts}
    table = launched(handlers, launcher(ray, worker, ray_slots=4))
    kinds = (StepKind.GGUF, StepKind.GGUF, StepKind.PUSH)
    await asyncio.gather(*(table[kind](request_of(), context) for kind, context in zip(kinds, contexts, strict=True)))
    assert most == [1, 1, 1]
    assert waited == {"another conversion, push or probe on this machine", None}, (
        "None: of one that runs after it waited"
    )


async def test_a_local_attempt_ends_the_run_that_an_earlier_one_left(
    worker: PlatformSettings, monkeypatch: pytest.MonkeyPatch
):
    runs = Runs(worker, STEP)
    local = Local({StepKind.SFT: _returns(RESULT)})
    assert await local.run(request_of(), attempt(worker, 1)) == RESULT
    assert await local.run(request_of(), attempt(worker, 2)) == RESULT
    assert runs.owner() is None, "where there was none, nothing is written"
    with monkeypatch.context() as away:
        away.setattr(Objects, "list", None)
        assert await local.run(request_of(), attempt(worker, 1)) == RESULT, "a first attempt does not ask the storage"
    runs.own(Owner(attempt=1, run=FIRST))
    assert await local.run(request_of(), attempt(worker, 2)) == RESULT
    assert runs.owner() == Owner(attempt=2, run=None)


# ---- on the cluster's machine


def _returns(result: StepResult) -> Callable[[StepRequest, StepContext], Awaitable[StepResult]]:
    async def handler(request: StepRequest, context: StepContext) -> StepResult:
        (context.scratch / "left").touch()
        context.progress(8, 8, loss=0.5)
        await asyncio.sleep(0.1)
        return result

    return handler


async def _fails(request: StepRequest, context: StepContext) -> StepResult:
    raise KeyError("nobody foresaw this")


async def _waits(request: StepRequest, context: StepContext) -> StepResult:
    await asyncio.sleep(60)
    raise AssertionError


def a_run(context: StepContext, abandoned_after_s: float = 60.0) -> Run:
    claim = context.claim._asdict()
    del claim["started_at"]
    return Run(id=FIRST, abandoned_after_s=abandoned_after_s, **claim)


async def test_the_machine_does_the_step_and_leaves_nothing(worker: PlatformSettings, tmp_path: Path):
    context, runs, node = attempt(worker, 1), Runs(worker, STEP), host(tmp_path, "node")
    runs.own(Owner(attempt=1, run=FIRST))
    assert await remote_step.work(a_run(context), node, {StepKind.SFT: _returns(RESULT)}) == 0
    ended, progress = runs.ended(FIRST), runs.progress(FIRST)
    assert ended is not None
    assert StepResult.model_validate(context.artifacts.get_json(ended.result)) == RESULT
    assert progress is not None
    assert (progress.done, progress.metrics) == (8, {"loss": 0.5})
    assert not list((node.data / "scratch").iterdir())


@pytest.mark.parametrize("away", [Remote, Runs])
async def test_a_result_waits_for_a_storage_that_is_away(
    worker: PlatformSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: type
):
    context, runs = attempt(worker, 1), Runs(worker, STEP)
    name = "put" if away is Remote else "end"
    write, calls = getattr(away, name), []

    def fails_twice(*args: object) -> None:
        calls.append(args)
        if len(calls) < 3:
            raise ObjectsUnavailable("the storage is away", "wait")
        write(*args)

    runs.own(Owner(attempt=1, run=FIRST))
    monkeypatch.setattr(away, name, fails_twice)
    assert await remote_step.work(a_run(context), host(tmp_path, "node"), {StepKind.SFT: _returns(RESULT)}) == 0
    ended = runs.ended(FIRST)
    assert ended is not None
    assert StepResult.model_validate(context.artifacts.get_json(ended.result)) == RESULT


async def test_the_machine_tells_an_error(worker: PlatformSettings, tmp_path: Path):
    context, runs = attempt(worker, 1), Runs(worker, STEP)
    runs.own(Owner(attempt=1, run=FIRST))
    assert await remote_step.work(a_run(context), host(tmp_path, "node"), {StepKind.SFT: _fails}) == 1
    ended = runs.ended(FIRST)
    assert ended is not None
    assert ended.failed is not None
    assert (ended.failed.family, "nobody foresaw" in ended.failed.message) == ("fatal", True)


@pytest.mark.parametrize("why", ["stopped", "another run", "abandoned"])
async def test_a_run_that_no_longer_has_the_step_ends(worker: PlatformSettings, tmp_path: Path, why: str):
    context, runs, node = attempt(worker, 1), Runs(worker, STEP), host(tmp_path, "node")
    run, table = a_run(context, 0.3 if why == "abandoned" else 60.0), {StepKind.SFT: _waits}
    assert await remote_step.work(run, node, table) == 2, "without an owner it does not begin"
    runs.own(Owner(attempt=1, run=FIRST))
    working = asyncio.create_task(remote_step.work(run, node, table))
    await asyncio.sleep(0.1)
    assert not working.done()
    if why != "abandoned":
        runs.own(Owner(attempt=2, run=None if why == "stopped" else SECOND))
    assert await asyncio.wait_for(working, 20) == 2
    assert runs.ended(FIRST) is None
