"""Garbage collection of the data folder.

Kept: what unfinished jobs, jobs that ended within the retention and jobs of served versions refer to; weights of live versions;
live files; all reports; and everything written within the last hour, for a file exists before the row that names it.
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from shared.artifacts.opening import UPLOADS, checkpoints_of_all, remote_of
from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.contracts.errors import UserError
from shared.contracts.steps import StepResult
from shared.jobs.chat_store import ChatStore
from shared.jobs.retention_store import Needed, RetentionStore
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
GRACE_S = 3600.0
LOOKED_AT = 100  # artifacts, to tell whether a database and a store belong together
DAY_S = 86_400.0


class UnknownData(UserError):
    code = "unknown_data"


@dataclass
class Collected:
    """Counts. steps: whose results expired. artifacts, served, leftovers: removed files and folders, with their bytes. kept: artifacts
    that stay."""

    steps: int = 0
    artifacts: int = 0
    served: int = 0
    leftovers: int = 0
    bytes: int = 0
    kept: int = 0

    @property
    def removed(self) -> int:
        return self.steps + self.artifacts + self.served + self.leftovers


def collect(
    store: RetentionStore, artifacts: Artifacts, settings: PlatformSettings, dry_run: bool = False
) -> Collected | None:
    """Remove (dry_run: count) what is not needed. None: the settings keep everything.

    Raises UnknownData if the database knows none of the artifacts, for it then belongs to another data folder.
    """
    if not settings.retention:
        return None
    now = time.time()
    cutoff, before = now - settings.retention.total_seconds(), now - GRACE_S
    serving, logs = settings.serving, settings.data / "logs"
    needed = store.needed(cutoff)
    remote = artifacts.remote
    there = list(artifacts.all()) if remote is None else []
    _check_knows(needed, there, artifacts)
    steps = store.count_expired(cutoff) if dry_run else store.expire_results(cutoff)
    needed = store.needed(cutoff)  # again: a job may have reused a result just before it expired
    folders = needed.trained | _folders(artifacts, needed)
    keep = needed.contents | folders
    collected = Collected(steps=steps)
    if remote is not None:
        garbage = remote.collect(needed.contents, folders, before, dry_run)
        collected.artifacts, collected.bytes = garbage.count, garbage.bytes
        collected.leftovers = _abandoned(settings, dry_run)
        unknown = remote_of(settings, UPLOADS).collect(
            needed.contents, (), before, dry_run
        )  # of uploads that were cut off
        collected.leftovers, collected.bytes = collected.leftovers + unknown.count, collected.bytes + unknown.bytes
    count, size = _remove((path for path in there if path.name not in keep), before, dry_run)
    collected.kept = len(there) - count
    collected.artifacts += count
    collected.bytes += size
    served = (path for path in _entries(serving) if len(path.name) == 64 and path.name not in keep)
    collected.served, size = _remove(served, before, dry_run)
    collected.bytes += size
    count, size = _remove(_leftovers(artifacts, serving, logs, cutoff), before, dry_run)
    collected.leftovers += count
    collected.bytes += size
    if not dry_run:
        store.forget_workers(DAY_S)
    return collected


def _check_knows(needed: Needed, there: list[Path], artifacts: Artifacts) -> None:
    """Raises UnknownData."""
    known = needed.contents | needed.trained
    strange = there and not known & {path.name for path in there}
    if artifacts.remote is not None:
        names = list(islice(artifacts.remote.names(), LOOKED_AT))
        strange = bool(names) and not any(map(artifacts.remote.has, islice(known, LOOKED_AT)))
    if strange:
        place = artifacts.root if artifacts.remote is None else artifacts.remote.objects.url
        raise UnknownData(f"the database knows none of the artifacts in {place}; check DATABASE_URL")


def _abandoned(settings: PlatformSettings, dry_run: bool) -> int:
    """Remove (dry_run: count) the checkpoints of steps that nobody has worked on for a day."""
    count = 0
    for remote in checkpoints_of_all(settings):
        age_s = remote.age_s()
        if age_s is not None and age_s > DAY_S:
            count += 1
            if not dry_run:
                remote.clear()
    return count


def prune_audit(store: RetentionStore, settings: PlatformSettings, dry_run: bool = False) -> int:
    """Remove (dry_run: count) audit entries older than the settings keep; returns how many."""
    kept = settings.audit_retention.total_seconds()
    return store.forget_audit(time.time() - kept, dry_run) if kept else 0


def prune_chats(chats: ChatStore, settings: PlatformSettings, dry_run: bool = False) -> int:
    """Remove (dry_run: count) stored chats older than the settings keep, with their feedback; returns how many."""
    kept = settings.chat_retention.total_seconds()
    return chats.expire(time.time() - kept, dry_run) if kept else 0


def _folders(artifacts: Artifacts, needed: Needed) -> set[str]:
    """The folders that needed step results name: trained weights, exported files."""
    folders: set[str] = set()
    for reference in needed.results:
        try:
            result = StepResult.model_validate(artifacts.get_json(reference))
        except ArtifactMissing as error:
            log.warning("a kept result cannot be read", reference=reference, reason=error.message)
            continue
        folders.update(filter(None, (result.trained, result.folder)))
    return folders


def _leftovers(artifacts: Artifacts, serving: Path, logs: Path, cutoff: float) -> Iterator[Path]:
    """Temporary files of killed writers, and training logs from before the cutoff."""
    yield from artifacts.root.glob(".tmp-*")
    yield from artifacts.root.glob("[0-9a-f][0-9a-f]/.tmp-*")
    yield from serving.glob(".tmp-*")
    yield from logs.glob(".tmp-*")
    yield from (path for path in logs.glob("trainer-step-*.log") if path.stat().st_mtime < cutoff)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(paths: Iterable[Path], before: float, dry_run: bool) -> tuple[int, int]:
    """Remove (dry_run: count) the paths that were not changed after `before`; returns (count, bytes)."""
    count = size = 0
    for path in paths:
        taken = _size_if_old(path, before)
        if taken is None or not (dry_run or _removed(path, before)):
            continue
        count, size = count + 1, size + taken
    return count, size


def _size_if_old(path: Path, before: float) -> int | None:
    try:
        if path.stat().st_mtime >= before:
            return None
        return sum(one.lstat().st_size for one in (path, *path.rglob("*")))
    except FileNotFoundError:  # another collector has removed it
        return None


def _removed(path: Path, before: float) -> bool:
    """Rename it first: a process that puts the same content now either renews it in time, and it is renamed back, or writes it
    again."""
    aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    renewed = aside.stat().st_mtime >= before
    if renewed:
        with contextlib.suppress(OSError):  # it was written again in between
            aside.rename(path)
            return False
    shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    return not renewed
