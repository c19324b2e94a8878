"""Checkpoints of a running training on object storage, so that its step goes on on any machine."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from shared.artifacts.folders import hash_folder
from shared.artifacts.objects import ObjectsUnavailable
from shared.artifacts.opening import checkpoints_of, checkpoints_of_all
from shared.artifacts.remote import Damaged, Remote
from shared.contracts.steps import Wire
from shared.platform.log import get_logger
from shared.queue.step_task import StepContext

log = get_logger(__name__)
LOOK_S = 1.0
NEWEST = "newest.json"
WRITTEN_LAST = "trainer_state.json"  # a checkpoint without it was cut off


class Newest(Wire):
    """step: the optimiser's. digest: of the checkpoint's folder."""

    step: int
    digest: str


@asynccontextmanager
async def kept_elsewhere(context: StepContext, folder: Path) -> AsyncGenerator[None]:
    """Fetch a newer checkpoint than the folder has, and store those that come. On a data folder alone nothing is to be done."""
    if not context.settings.artifacts_url:
        yield
        return
    claim = context.claim
    store = CheckpointStore(checkpoints_of(context.settings, claim.step_id, claim.attempt), folder)
    every = await asyncio.to_thread(checkpoints_of_all, context.settings, claim.step_id)
    await asyncio.to_thread(store.fetch, every)
    context.clear_more = lambda: [one.clear() for one in checkpoints_of_all(context.settings, claim.step_id)]
    following = asyncio.create_task(store.follow())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


class CheckpointStore:
    """remote: of this attempt. folder: that the training process writes its checkpoints into."""

    def __init__(self, remote: Remote, folder: Path):
        self.remote, self.folder = remote, folder
        self._stored = -1

    async def follow(self) -> None:
        """Store each new checkpoint, forever. A store that is away costs checkpoints and no training."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await asyncio.to_thread(self.store)
            except ObjectsUnavailable as error:
                log.warning("a checkpoint is not stored", reason=error.message)

    def store(self) -> None:
        """The newest complete checkpoint, if it is not stored yet. Its files are linked first: the training removes an old one."""
        newest = last(self.folder)
        if newest is None or newest[0] <= self._stored:
            return
        step, path = newest
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".tmp-") as scratch:
            copy = Path(scratch) / "checkpoint"
            try:
                shutil.copytree(path, copy, copy_function=os.link)
            except (FileNotFoundError, shutil.Error):
                return  # it was removed meanwhile, for a newer one is there
            digest = hash_folder(copy)
            self.remote.put_folder(digest, copy)
        about = Newest(step=step, digest=digest)
        self.remote.objects.put(f"{self.remote.folder}/{NEWEST}", about.model_dump_json().encode())
        self.remote.keep_only(digest, NEWEST)
        self._stored = step

    def fetch(self, every: list[Remote]) -> None:
        """Put the newest checkpoint of all attempts into the folder, unless a newer one is there. Raises ObjectsUnavailable."""
        here = last(self.folder)
        for newest, remote in sorted(filter(None, map(_newest, every)), key=lambda pair: -pair[0].step):
            if here is not None and newest.step <= here[0]:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".tmp-") as scratch:
                try:
                    there = remote.fetch_folder(newest.digest, Path(scratch) / "new")
                except Damaged as error:
                    log.warning("a stored checkpoint is damaged", reason=str(error))
                    continue
                if there:
                    place = self.folder / f"checkpoint-{newest.step}"
                    shutil.rmtree(place, ignore_errors=True)  # a save that was cut off
                    (Path(scratch) / "new").rename(place)
                    log.info("goes on from a stored checkpoint", step=newest.step)
                    return


def last(folder: Path) -> tuple[int, Path] | None:
    """Step and path of the newest complete checkpoint."""
    complete = [path for path in folder.glob("checkpoint-*") if (path / WRITTEN_LAST).exists()]
    return max(((int(path.name.rpartition("-")[2]), path) for path in complete), default=None)


def _newest(remote: Remote) -> tuple[Newest, Remote] | None:
    content = remote.objects.get(f"{remote.folder}/{NEWEST}")
    return None if content is None else (Newest.model_validate_json(content), remote)
