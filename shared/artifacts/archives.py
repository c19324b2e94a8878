"""Tar archives computed on the fly: their length and any range of them follow from names and sizes.

Equal members give equal bytes: no times or owners are stored, and the order is fixed.
"""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import FILE as LOGPROBS
from shared.contracts.exports import MANIFEST, README, ExportFormat, ExportIndex
from shared.contracts.steps import canonical

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
CHUNK = 1 << 20


class Member(NamedTuple):
    """name: its path inside the archive."""

    name: str
    content: bytes | Path

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


class Parts:
    """A concatenation of bytes and files. The files must not change while they are read; artifacts never do."""

    def __init__(self, parts: list[tuple[bytes | Path, int]], renew: Callable[[], object] = lambda: None):
        """renew: called before each part is read; it brings back files that were evicted since."""
        self._parts, self._renew = parts, renew
        self.size = sum(size for _, size in parts)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from start up to (without) stop, in chunks."""
        stop = self.size if stop is None else stop
        at = 0
        for part, size in self._parts:
            first, last = max(start - at, 0), min(stop - at, size)
            if first < last:
                self._renew()
                yield from _piece(part, first, last)
            at += size

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.read():
            digest.update(chunk)
        return digest.hexdigest()


def text(content: bytes) -> Parts:
    return Parts([(content, len(content))])


def archive(members: list[Member], renew: Callable[[], object] = lambda: None) -> Parts:
    """The tar archive of the members, in their order. renew: as for Parts."""
    parts: list[tuple[bytes | Path, int]] = []
    for member in members:
        info = tarfile.TarInfo(member.name)
        info.size, info.mode = member.size, 0o644
        header = info.tobuf(tarfile.GNU_FORMAT)
        padding = bytes(-member.size % BLOCK)
        parts += [(header, len(header)), (member.content, member.size), (padding, len(padding))]
    end = 2 * BLOCK
    end += -(sum(size for _, size in parts) + end) % RECORD
    return Parts([*parts, (bytes(end), end)], renew)


def _piece(part: bytes | Path, first: int, last: int) -> Iterator[bytes]:
    if isinstance(part, bytes):
        yield part[first:last]
        return
    with part.open("rb") as file:
        file.seek(first)
        while first < last and (chunk := file.read(min(CHUNK, last - first))):
            first += len(chunk)
            yield chunk


def readme_of(index: ExportIndex) -> bytes:
    return index.readme.encode()


def manifest_of(index: ExportIndex) -> bytes:
    return canonical(index.manifest) + b"\n"


def archive_of(index: ExportIndex, form: ExportFormat, artifacts: Artifacts) -> Parts:
    """Model card, manifest and the format's files by name. Raises ArtifactMissing if they were removed."""
    digest = index.folders[form]
    members = [
        Member(f"{index.top}-{form.value}/{name}", content)
        for name, content in [*_papers(index), *_files(digest, artifacts)]
    ]
    return archive(members, lambda: artifacts.folder(digest))


def files_of(index: ExportIndex, artifacts: Artifacts) -> list[Member]:
    """All formats' files, as in a repository: several formats have a folder each."""
    several = len(index.folders) > 1
    members = _papers(index)
    for form, digest in index.folders.items():
        top = f"{form.value}/" if several else ""
        members += [Member(top + name, content) for name, content in _files(digest, artifacts)]
    return members


def _papers(index: ExportIndex) -> list[Member]:
    return [Member(README, readme_of(index)), Member(MANIFEST, manifest_of(index))]


def _files(digest: str, artifacts: Artifacts) -> list[Member]:
    folder = artifacts.folder(digest)
    return [Member(path.relative_to(folder).as_posix(), path) for path in exported(folder)]


def exported(folder: Path) -> list[Path]:
    """The files of an artifact that leave this system: all but what the trainer measured on training rows."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / LOGPROBS)
