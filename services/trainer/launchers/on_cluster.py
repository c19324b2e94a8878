"""Follows a step that runs on another machine: submits it once, reports its progress, ends it, and finds it again after a crash."""

import asyncio
import time
from dataclasses import dataclass

from services.trainer.launchers.port import (
    TOGETHER,
    Cluster,
    ClusterAway,
    Clusters,
    State,
    Status,
    Submission,
)
from services.trainer.runs import Ended, Owner, Run, Runs
from services.trainer.settings import TrainerSettings
from shared.artifacts.objects import ObjectsUnavailable
from shared.contracts.errors import FatalError, Postponed, TransientError
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext

log = get_logger(__name__)
LOOK_S = 1.0  # between two looks at a run
BEAT_S = 5.0  # between two signs of life to a run
AWAY_S = 60.0  # cluster or storage may be away for so long before the step rests
STOP_S = 30.0  # until a run that was asked to end has ended
MESSAGE_CHARS = 500  # of the cluster's message


class OnCluster:
    def __init__(self, clusters: Clusters, settings: TrainerSettings, platform: PlatformSettings):
        self.clusters, self.settings, self.platform = clusters, settings, platform
        self.slots = settings.ray_slots

    def check(self) -> None:
        if not self.platform.artifacts_url:
            raise FatalError(
                "METEOR_TRAINER_LAUNCHER is ray and METEOR_ARTIFACTS_URL is not set: the cluster's machines do not see this data "
                "folder. Set it to s3://..., or to file://... for a folder that is mounted on all of them",
                code="ray_unavailable",
            )
        self.clusters.check()

    async def run(self, request: StepRequest, context: StepContext) -> StepResult:
        runs = Runs(context.settings, context.claim.step_id)
        context.clear_more = runs.clear
        async with self.clusters.open() as cluster:
            submission = self._submission(context, request.kind)
            following = Following(cluster, runs, context, submission, self.settings.ray_abandoned_after.total_seconds())
            try:
                ended = await following.to_the_end()
            except asyncio.CancelledError:
                if not context.moves_on():
                    await following.stop()
                raise
        if ended.failed is not None:
            raise ended.failed.error()
        return StepResult.model_validate(await asyncio.to_thread(context.artifacts.get_json, ended.result))

    def _submission(self, context: StepContext, kind: StepKind) -> Submission:
        """Without its id and its run, which are known when it is submitted. No secret is among the variables: the dashboard shows them."""
        own, devices = self.settings, self.settings.ray_gpus
        environment = {
            "METEOR_ARTIFACTS_URL": context.settings.artifacts_url,
            "METEOR_DEVICE_SHARING": "memory",  # Ray reserves the device; there is no engine to borrow it from
            "METEOR_TRAINER_GPUS": "",  # Ray says which
            "METEOR_TRAINER_PROCESSES": str(devices or own.processes),
            "METEOR_TRAINER_CHECKPOINT_EVERY": f"PT{own.checkpoint_every.total_seconds()}S",
            "METEOR_TRAINER_CHECKPOINT_STEPS": str(own.checkpoint_steps),
        }
        chosen = {"METEOR_TRAINER_PADDING_FREE": own.padding_free, "METEOR_TRAINER_FSDP": own.fsdp}
        environment |= {name: str(value).lower() for name, value in chosen.items() if value is not None}
        command = [own.ray_python, "-m", "services.trainer.remote_step"]
        return Submission("", command, environment, devices if kind in TOGETHER else min(devices, 1))


@dataclass
class Following:
    """One attempt's view of a step's run. run: known once it was submitted or met."""

    cluster: Cluster
    runs: Runs
    context: StepContext
    submission: Submission
    abandoned_after_s: float
    run: str = ""
    beat: int = 0
    last_beat: float = 0.0

    async def to_the_end(self) -> Ended:
        """Raises TransientError for a run that ended without a result, Postponed where the cluster is away or full."""
        done = await self._begin()
        seen = time.monotonic()
        while done is None:
            try:
                done = await self._look()
                seen = time.monotonic()
            except (ClusterAway, ObjectsUnavailable) as error:
                if time.monotonic() - seen > AWAY_S:
                    raise
                log.warning("the run's state cannot be read", run=self.run, reason=error.message)
            if done is None:
                await asyncio.sleep(LOOK_S)
        return done

    async def _begin(self) -> Ended | None:
        """Follow the run of an earlier attempt if it goes on, else submit one. Returns how the earlier run ended, if that is final."""
        prefix = f"meteor-{self.context.claim.step_id}-"
        owner = await asyncio.to_thread(self.runs.owner)
        if had := owner.run if owner else None:
            self.run = had
            await self._own()  # before the cluster is asked, which may be away while the run goes on
            ended = await asyncio.to_thread(self.runs.ended, had)
            if ended is not None and ended.is_final:
                return ended
        known = await self.cluster.submitted(prefix)
        for run, status in known.items():
            if run != had and not status.state.is_over:  # it was told to end, and has not yet
                await self._end(run)
        if had is not None and had in known and not known[had].state.is_over:
            log.info("goes on with a run on the cluster", run=had, step_key=self.context.claim.key)
            return None
        self.run = f"{prefix}{max(map(number, [*known, had] if had else known), default=0) + 1}"
        await self._own()
        await self._submit()
        return None

    async def _submit(self) -> None:
        claim = self.context.claim
        run = Run(
            id=self.run,
            step_id=claim.step_id,
            job_id=claim.job_id,
            project_id=claim.project_id,
            key=claim.key,
            kind=claim.kind,
            input_hash=claim.input_hash,
            attempt=claim.attempt,
            abandoned_after_s=self.abandoned_after_s,
        )
        command = [*self.submission.command, run.model_dump_json()]
        await self.cluster.submit(self.submission._replace(id=self.run, command=command))
        log.info("submitted to the cluster", run=self.run, step_key=claim.key)

    async def _look(self) -> Ended | None:
        if ended := await asyncio.to_thread(self.runs.ended, self.run):
            return ended
        status = await self.cluster.status(self.run)
        if status is None or status.state.is_over:
            return await asyncio.to_thread(self.runs.ended, self.run) or await self._lost(status)
        progress = await asyncio.to_thread(self.runs.progress, self.run)
        if progress is not None:
            self.context.latest = progress
        elif status.state is State.WAITING:
            self.context.waits_for(f"a machine of the cluster: {status.message[:MESSAGE_CHARS]}")
        else:
            self.context.waits_for("the step starts on the cluster")
        if time.monotonic() - self.last_beat >= BEAT_S:
            await self._own()
        return None

    async def _own(self) -> None:
        """Raises TransientError where a newer attempt has the step; what that one follows is left alone."""
        self.beat += 1
        self.last_beat = time.monotonic()
        owner = Owner(attempt=self.context.claim.attempt, run=self.run, beat=self.beat)
        if not await asyncio.to_thread(self.runs.own, owner):
            raise TransientError("a newer attempt has the step", code="lease_lost")

    async def _lost(self, status: Status | None) -> Ended:
        """For a run that has left no result. Raises always."""
        if status is not None and status.state is State.NO_ROOM:
            raise Postponed(
                f"the cluster had no room for {self.run}: {status.message[:MESSAGE_CHARS]}", again_in_s=30.0
            )
        message = "the cluster no longer knows it" if status is None else status.message[:MESSAGE_CHARS]
        path = self.context.settings.data / "logs" / f"trainer-{self.context.claim.step_id}.log"
        try:
            text = await self.cluster.log(self.run)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            message = f"{message}; its log is {path}"
        except ClusterAway as error:
            log.warning("the run's log cannot be read", run=self.run, reason=error.message)
        raise TransientError(f"{self.run} ended without a result: {message}", code="training_process_lost")

    async def stop(self) -> None:
        """End the run, unless a newer attempt follows it. It also ends by itself when it sees that it no longer has the step."""
        if not self.run:
            return
        try:
            owner = Owner(attempt=self.context.claim.attempt, run=None)
            if await asyncio.to_thread(self.runs.own, owner):
                await self._end(self.run)
        except (ClusterAway, ObjectsUnavailable) as error:
            log.warning("the run may go on for a while", run=self.run, reason=error.message)

    async def _end(self, run: str) -> None:
        """Returns when it has ended, or after STOP_S."""
        await self.cluster.stop(run)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            status = await self.cluster.status(run)
            if status is None or status.state.is_over:
                return
            await asyncio.sleep(LOOK_S / 4)
        log.warning("the run has not ended yet", run=run)


def number(run: str) -> int:
    return int(run.rpartition("-")[2])
