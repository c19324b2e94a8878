"""Copies the artifacts and uploads of a data folder to the object storage of METEOR_ARTIFACTS_URL. The folder stays as it is.

What the storage has is not sent again, so a run that was cut off is continued by the next one. The system may run on the folder meanwhile:
a second run takes what came after the first one's look.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.local.progress import ProgressReport
from shared.artifacts.folders import hash_folder
from shared.artifacts.opening import ARTIFACTS, UPLOADS, remote_of
from shared.artifacts.remote import AT_ONCE, Damaged, Remote, in_turn
from shared.artifacts.store import HASH_LENGTH, Artifacts
from shared.contracts.errors import UserError
from shared.platform.settings import PlatformSettings


@dataclass
class Uploaded:
    """artifacts, files, bytes: sent now. kept: artifacts and files that the storage had. damaged: paths whose content does not have the
    hash of their name, and that were not sent. damaged_there: what the storage answered wrongly, with its key."""

    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    kept: int = 0
    damaged: list[str] = field(default_factory=list)
    damaged_there: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.damaged and not self.damaged_there


@dataclass(frozen=True)
class Sent:
    """One artifact or file. bytes: sent now; None where the storage had it. gone: the collector removed it meanwhile."""

    bytes: int | None = None
    gone: bool = False
    damaged: str = ""
    damaged_there: str = ""


def upload(settings: PlatformSettings, verify: bool, report: ProgressReport) -> Uploaded:
    """verify: read everything back from the storage. Raises UserError, and ObjectsUnavailable while the storage does not answer."""
    source = settings.data.resolve()
    if not settings.artifacts_url:
        raise UserError(
            "METEOR_ARTIFACTS_URL is not set; set it to where the artifacts shall lie, such as s3://bucket/folder",
            param="METEOR_ARTIFACTS_URL",
        )
    _refuse_own_folder(source, settings.artifacts_url)
    artifacts, files = source / "artifacts", source / "files"
    if not artifacts.is_dir() and not files.is_dir():
        raise UserError(f"{source} holds no artifacts and no files; name the data folder with --data", param="data")
    done = Uploaded()
    for sent in _send(Artifacts(artifacts).all(), remote_of(settings, ARTIFACTS), verify):
        done.artifacts += _count(done, sent)
        report.note(_as_text(done))
    for sent in _send(_uploads(files), remote_of(settings, UPLOADS), verify):
        done.files += _count(done, sent)
        report.note(_as_text(done))
    return done


def _refuse_own_folder(source: Path, url: str) -> None:
    """Objects in the data folder itself would stand among the artifacts that they are copies of."""
    parts = urlsplit(url)
    if parts.scheme == "file" and Path(unquote(parts.path)).resolve().is_relative_to(source):
        raise UserError(f"{url} lies in the data folder itself; name a place elsewhere", param="METEOR_ARTIFACTS_URL")


def _uploads(folder: Path) -> Iterator[Path]:
    """Without those that are just arriving."""
    yield from (path for path in folder.glob("*") if path.is_file() and len(path.name) == HASH_LENGTH)


def _send(paths: Iterator[Path], remote: Remote, verify: bool) -> Iterator[Sent]:
    there = frozenset(remote.names())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from in_turn(pool, partial(_send_one, remote, there, verify), iter(sorted(paths)))


def _send_one(remote: Remote, there: frozenset[str], verify: bool, path: Path) -> Sent:
    digest, is_folder = path.name, path.is_dir()
    size = None
    try:
        if digest not in there or (is_folder and not remote.has_folder(digest)):
            if _hash(path) != digest:
                return Sent(damaged=str(path))
            size = _size(path)
            remote.put_folder(digest, path) if is_folder else remote.put_file(digest, path)
        if verify and not remote.reads(digest, is_folder):
            return Sent(damaged_there=f"{remote.folder}/{digest} is not whole")
    except FileNotFoundError:
        if path.exists():
            raise
        return Sent(gone=True)
    except Damaged as error:
        return Sent(damaged_there=str(error))
    return Sent(bytes=size)


def _hash(path: Path) -> str:
    if path.is_dir():
        return hash_folder(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())


def _count(done: Uploaded, sent: Sent) -> int:
    """1 for what was sent now."""
    if sent.damaged:
        done.damaged.append(sent.damaged)
    elif sent.damaged_there:
        done.damaged_there.append(sent.damaged_there)
    elif sent.bytes is not None:
        done.bytes += sent.bytes
        return 1
    elif not sent.gone:
        done.kept += 1
    return 0


def _as_text(done: Uploaded) -> str:
    return f"{done.artifacts} artifacts and {done.files} files sent, {done.bytes / 1e9:.2f} GB; {done.kept} were there"
