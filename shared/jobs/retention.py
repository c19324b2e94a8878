"""Removing what nobody needs any more from the data folder.

Never touched: what a job that has not ended refers to, or one that ended within the retention, or one whose result an alias
serves; what any version was trained to; files that were not deleted; all reports. And nothing that was written or put again
within the last hour: a file is there before the row that names it.
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
    """steps: finished ones whose results were let go of. artifacts, served, leftovers: files and folders removed of each
    kind, and the bytes that they took. kept: artifacts that stay."""

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
    """Remove (dry_run: count) what is not needed; None where the settings keep everything for ever.

    Raises UnknownData when the database knows none of the artifacts: then it is another system's.
    """
    if not settings.retention:
        return None
    now = time.time()
    cutoff, before = now - settings.retention.total_seconds(), now - GRACE_S
    serving, logs = settings.serving, settings.data / "logs"
    needed = store.needed(cutoff)
    there = list(artifacts.all())
    if there and not (needed.contents | needed.trained) & {path.name for path in there}:
        raise UnknownData(f"the database knows nothing of what is in {artifacts.root}; is DATABASE_URL the right one?")
    steps = store.to_let_go(cutoff) if dry_run else store.let_go(cutoff)
    needed = store.needed(cutoff)  # again: a job may just have taken over what was let go of
    keep = needed.contents | needed.trained | _made(artifacts, needed)
    found = Collected(steps=steps)
    found.artifacts, size = _remove((path for path in there if path.name not in keep), before, dry_run)
    found.kept = len(there) - found.artifacts
    found.bytes += size
    served = (path for path in _entries(serving) if len(path.name) == 64 and path.name not in keep)
    found.served, size = _remove(served, before, dry_run)
    found.bytes += size
    found.leftovers, size = _remove(_leftovers(artifacts, serving, logs, cutoff), before, dry_run)
    found.bytes += size
    if not dry_run:
        store.forget_workers(DAY_S)
    return found


def prune_audit(store: RetentionStore, settings: PlatformSettings, dry_run: bool = False) -> int:
    """Remove (dry_run: count) what is older in the audit log than the settings keep; returns how many entries."""
    kept = settings.audit_retention.total_seconds()
    return store.forget_audit(time.time() - kept, dry_run) if kept else 0


def _made(artifacts: Artifacts, needed: Needed) -> set[str]:
    """The folders that the steps which are kept have made: what they trained, what an export is of."""
    found: set[str] = set()
    for reference in needed.results:
        try:
            result = StepResult.model_validate(artifacts.get_json(reference))
        except ArtifactMissing as error:
            log.warning("a kept result cannot be read", reference=reference, reason=error.message)
            continue
        found.update(filter(None, (result.trained, result.folder)))
    return found


def _leftovers(artifacts: Artifacts, serving: Path, logs: Path, cutoff: float) -> Iterator[Path]:
    """What writers left that were killed, and the logs of trainings as old as results that are let go of."""
    yield from artifacts.root.glob(".tmp-*")
    yield from artifacts.root.glob("[0-9a-f][0-9a-f]/.tmp-*")
    yield from serving.glob(".tmp-*")
    yield from logs.glob(".tmp-*")
    yield from (path for path in logs.glob("trainer-step-*.log") if path.stat().st_mtime < cutoff)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(paths: Iterable[Path], before: float, dry_run: bool) -> tuple[int, int]:
    """How many of the paths were removed (dry_run: would be), and their bytes; none that was changed after `before`."""
    count = size = 0
    for path in paths:
        taken = _size_if_old(path, before)
        if taken is None or not (dry_run or _thrown_away(path, before)):
            continue
        count, size = count + 1, size + taken
    return count, size


def _size_if_old(path: Path, before: float) -> int | None:
    try:
        if path.stat().st_mtime >= before:
            return None
        return sum(one.lstat().st_size for one in (path, *path.rglob("*")))
    except FileNotFoundError:  # another collector was here first
        return None


def _thrown_away(path: Path, before: float) -> bool:
    """Out of the way first, in one move: who puts the same content now either renews it in time, and it goes back, or finds
    it gone and writes it anew."""
    aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    renewed = aside.stat().st_mtime >= before
    if renewed:
        with contextlib.suppress(OSError):  # it was written anew meanwhile
            aside.rename(path)
            return False
    shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    return not renewed
