"""A copy of a data folder from which METEOR can be started, made while it runs.

The databases come first and the artifacts after them: rows name artifacts, never the other way round, and an artifact is
never changed. The ledger is copied after the jobs, so no call that a copied step rests on is missing in it.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shared.artifacts.objects import Objects
from shared.artifacts.opening import ARTIFACTS, UPLOADS
from shared.artifacts.store import write_atomically
from shared.contracts.errors import UserError
from shared.platform.settings import PlatformSettings

DATABASES = ("meteor.sqlite3", "ledger.sqlite3")
FOLDERS = ("files", "artifacts", "serving")
OF_THE_RUN = ("run.json", "run.lock")  # who runs now; says nothing about a copy
OBJECTS = "objects"  # of METEOR_ARTIFACTS_URL; file://COPY/objects is one itself
HALF_WRITTEN = ".tmp-"  # what every writer of the data folder begins its names with until a file is whole


@dataclass
class Copied:
    """files, bytes: copied now. kept: files that an earlier backup into the same folder had copied already."""

    databases: int = 0
    files: int = 0
    bytes: int = 0
    kept: int = 0


def back_up(settings: PlatformSettings, target: Path) -> Copied:
    """Copy what a restart needs from the data folder to `target`, which may hold an earlier backup. Raises UserError."""
    source = settings.data.resolve()
    target = target.resolve()
    if not source.is_dir():
        raise UserError(f"there is no data folder {source}")
    if target == source or source in target.parents:
        raise UserError(f"{target} lies in the data folder itself; name a folder elsewhere", param="target")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds everybody's questions and the keys' secrets
    done = Copied()
    if settings.database_url is None:
        for name in DATABASES:
            _copy_database(source / name, target / name)
            done.databases += 1
    for path in sorted(source.iterdir()):
        if path.is_file() and ".sqlite3" not in path.name and path.name not in OF_THE_RUN:
            _replace(path, target / path.name)
    links: dict[tuple[int, int], Path] = {}
    for folder in FOLDERS:
        _copy_folder(source / folder, target / folder, links, done)
    if settings.artifacts_url:
        _copy_objects(Objects(settings.artifacts_url), target / OBJECTS, done)
    return done


def _copy_objects(objects: Objects, target: Path, done: Copied) -> None:
    """Every object that is not there yet. Its name is what its content hashes to, so what is there is the same."""
    for folder in (ARTIFACTS, UPLOADS):
        for item in objects.list(folder):
            there = target / item.key
            if there.exists() and there.stat().st_size == item.size:
                done.kept += 1
                continue
            content = objects.get(item.key)
            if content is None:
                continue  # the collector removed it meanwhile: nothing needs it
            write_atomically(there, content, HALF_WRITTEN)
            done.files += 1
            done.bytes += len(content)


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's own online backup: one consistent state, whoever writes meanwhile."""
    if not source.exists():
        raise UserError(f"there is no database {source}; is DATABASE_URL set as it was for `meteor up`?")
    fresh = target.with_name(f"{HALF_WRITTEN}{target.name}")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live, closing(sqlite3.connect(fresh)) as copy:
        live.backup(copy)
    for leftover in ("-wal", "-shm"):  # of a system that was started on the earlier backup
        target.with_name(target.name + leftover).unlink(missing_ok=True)
    fresh.replace(target)


def _copy_folder(source: Path, target: Path, links: dict[tuple[int, int], Path], done: Copied) -> None:
    """Every file that is not there yet: names are content hashes, so what is there is the same."""
    for path in sorted(source.rglob("*")) if source.is_dir() else []:
        there = target / path.relative_to(source)
        if path.is_dir() or HALF_WRITTEN in str(path.relative_to(source)):
            continue
        try:
            status = path.stat()
            if there.exists() and there.stat().st_size == status.st_size:
                done.kept += 1
                continue
            twin = links.setdefault((status.st_dev, status.st_ino), there)
            there.parent.mkdir(parents=True, exist_ok=True)
            if twin is not there:  # whole models stand in two folders and take the room of one
                os.link(twin, there)
            else:
                _replace(path, there)
        except FileNotFoundError:
            if path.exists():
                raise
            continue  # the collector removed it meanwhile: nothing needs it
        done.files += 1
        done.bytes += status.st_size


def _replace(source: Path, target: Path) -> None:
    fresh = target.with_name(f"{HALF_WRITTEN}{target.name}")
    shutil.copy2(source, fresh)
    fresh.replace(target)
