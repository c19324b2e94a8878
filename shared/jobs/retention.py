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
from pathlib import Path

from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.contracts.errors import UserError
from shared.contracts.steps import StepResult
from shared.jobs.chat_store import ChatStore
from shared.jobs.retention_store import Needed, RetentionStore
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
GRACE_S = 3600.0
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
    there = list(artifacts.all())
    if there and not (needed.contents | needed.trained) & {path.name for path in there}:
        raise UnknownData(f"the database knows none of the artifacts in {artifacts.root}; check DATABASE_URL")
    steps = store.count_expired(cutoff) if dry_run else store.expire_results(cutoff)
    needed = store.needed(cutoff)  # again: a job may have reused a result just before it expired
    keep = needed.contents | needed.trained | _folders(artifacts, needed)
    collected = Collected(steps=steps)
    collected.artifacts, size = _remove((path for path in there if path.name not in keep), before, dry_run)
    collected.kept = len(there) - collected.artifacts
    collected.bytes += size
    served = (path for path in _entries(serving) if len(path.name) == 64 and path.name not in keep)
    collected.served, size = _remove(served, before, dry_run)
    collected.bytes += size
    collected.leftovers, size = _remove(_leftovers(artifacts, serving, logs, cutoff), before, dry_run)
    collected.bytes += size
    if not dry_run:
        store.forget_workers(DAY_S)
    return collected


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
