"""Artifacts on object storage. The name of every object is the SHA-256 of its content, so a copy is checked by its name alone.

    ab/<digest>         the bytes; of a folder the lines `name NUL digest`, from which a folder's hash is computed
    ab/<digest>.parts   of bytes longer than PART: the digests of its parts, each an object like any other
    used/<digest>       empty; when equal content was last put again
    aside/<digest>      what the collector is about to remove

Long files are cut here and not by the store's multipart uploads. So each part is checked and retried by itself, an interrupted upload continues
where it was, and the collector finds the parts of unfinished uploads, which clients of a store cannot list.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

from shared.artifacts.folders import as_lines, as_text, folder_lines
from shared.artifacts.objects import Objects, StoredObject
from shared.platform.log import get_logger

log = get_logger(__name__)
PART = 32 << 20  # bytes
AT_ONCE = 4  # parts on their way
TRIES = 2  # of a read whose content does not have the hash of its name
PARTS = ".parts"
T = TypeVar("T")
R = TypeVar("R")


class Damaged(Exception):
    """An object does not hold what its name says, however often it is read."""


@dataclass(frozen=True)
class Garbage:
    count: int
    bytes: int


@dataclass(frozen=True)
class Remote:
    """folder: of the objects below the store's URL."""

    objects: Objects
    folder: str

    def _key(self, digest: str, ending: str = "") -> str:
        return f"{self.folder}/{digest[:2]}/{digest}{ending}"

    def put(self, digest: str, content: bytes | memoryview) -> None:
        """Returns when the store has it. Content that is there already counts as put now."""
        self._put(digest, content)

    def _put(self, digest: str, content: bytes | memoryview, ending: str = "") -> None:
        key = self._key(digest, ending)
        while not self.objects.create(key, content):
            self.objects.put(f"{self.folder}/used/{digest}", b"")
            if self.objects.look(key) is not None:  # else the collector removed it before it saw the mark
                return

    def put_file(self, digest: str, path: Path) -> None:
        if path.stat().st_size <= PART:
            self._put(digest, path.read_bytes())
            return
        with path.open("rb") as file, ThreadPoolExecutor(AT_ONCE) as pool:
            parts = list(in_turn(pool, self._put_part, iter(lambda: file.read(PART), b"")))
        self._put(digest, "".join(f"{part}\n" for part in parts).encode(), PARTS)

    def _put_part(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        if self.objects.look(self._key(digest)) is None:
            self._put(digest, content)
        else:
            self.objects.put(f"{self.folder}/used/{digest}", b"")
        return digest

    def put_folder(self, digest: str, folder: Path) -> None:
        """Its files first, so that a folder that is there is whole."""
        lines = folder_lines(folder)
        for name, inner in lines.items():
            self.put_file(inner, folder / name)
        self.put(digest, as_text(lines))

    def has(self, digest: str) -> bool:
        return any(self.objects.look(self._key(digest, ending)) is not None for ending in ("", PARTS))

    def has_folder(self, digest: str) -> bool:
        """Whether all of its files are there."""
        lines = self._lines(digest)
        return lines is not None and all(map(self.has, lines.values()))

    def fetch_file(self, digest: str, target: Path) -> bool:
        """Write the bytes to a path; False where they are not there. Raises Damaged."""
        content = self._checked(digest)
        if content is not None:
            target.write_bytes(content)
            return True
        listed = self.objects.get(self._key(digest, PARTS))
        if listed is None:
            return False
        whole = hashlib.sha256()
        with target.open("wb") as file, ThreadPoolExecutor(AT_ONCE) as pool:
            for part in in_turn(pool, self._checked, listed.decode().split()):
                if part is None:
                    return False
                whole.update(part)
                file.write(part)
        if whole.hexdigest() != digest:
            raise Damaged(f"the parts of {self._key(digest)} do not make it")
        return True

    def fetch_folder(self, digest: str, target: Path) -> bool:
        """As fetch_file, for a folder that is made."""
        lines = self._lines(digest)
        if lines is None:
            return False
        target.mkdir()
        for name, inner in lines.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self.fetch_file(inner, path):
                return False
        return True

    def reads(self, digest: str, as_folder: bool) -> bool:
        """Read an artifact and keep nothing of it; False where a part of it is not there. Raises Damaged."""
        files = self._lines(digest) if as_folder else {"": digest}
        return files is not None and all(self.fetch_file(inner, Path(os.devnull)) for inner in files.values())

    def _lines(self, digest: str) -> dict[str, str] | None:
        """The files of a folder. Raises Damaged for an artifact that is none."""
        content = self._checked(digest)
        try:
            return None if content is None else as_lines(content)
        except ValueError as error:
            raise Damaged(f"{self._key(digest)} is no folder") from error

    def _checked(self, digest: str) -> bytes | None:
        """An object's bytes, read again where they do not have its hash. Raises Damaged."""
        for _ in range(TRIES):
            content = self.objects.get(self._key(digest))
            if content is None or hashlib.sha256(content).hexdigest() == digest:
                return content
            log.warning("an object arrived damaged", key=self._key(digest))
        raise Damaged(f"{self._key(digest)} does not hold what its name says")

    def remove(self, digest: str, still_needed: Callable[[], bool] = lambda: False) -> bool:
        """Remove an artifact; returns whether it is gone. still_needed: asked when it was set aside, and then it is put back. Whoever
        put equal content meanwhile left a mark first and looked afterwards, so one of both sees the other."""
        keys = [self._key(digest, ending) for ending in ("", PARTS)]
        saved = [key for key in keys if self.objects.copy(key, self._aside(key))]
        self.objects.delete(saved)
        needed = still_needed()
        if needed:
            for key in saved:
                self.objects.copy(self._aside(key), key)
        self.objects.delete(map(self._aside, saved))
        return not needed

    def _aside(self, key: str) -> str:
        return f"{self.folder}/aside/{PurePosixPath(key).name}"

    def collect(self, files: Collection[str], folders: Collection[str], before: float, dry_run: bool) -> Garbage:
        """Remove (dry_run: count) what is neither one of these artifacts nor a part of one, and was not put after `before`."""
        listed = list(self.objects.list(self.folder))
        there = list(self._entries(listed))
        kept = self._with_parts(files, folders, (name for name, _ in there))
        marks = {item.key.rpartition("/")[2]: item for item in listed if f"{self.folder}/used/" in item.key}
        count = size = 0
        for digest, item in ((name.removesuffix(PARTS), item) for name, item in there):
            if digest in kept or item.modified.timestamp() >= before or self._marked(digest, before, marks.get(digest)):
                continue
            if dry_run or self.remove(digest, lambda digest=digest: self._marked(digest, before)):
                count, size = count + 1, size + item.size
        if not dry_run:
            self._sweep(listed, before, kept)
        return Garbage(count, size)

    def keep_only(self, digest: str, *others: str) -> None:
        """Remove all but one folder, and these other names. For one writer."""
        there = list(self.objects.list(self.folder))
        kept = self._with_parts((), (digest,), (name for name, _ in self._entries(there)))
        gone = [item.key for item in there if PurePosixPath(item.key).name.removesuffix(PARTS) not in kept | {*others}]
        self.objects.delete(gone)

    def _with_parts(self, files: Collection[str], folders: Collection[str], names: Iterable[str]) -> set[str]:
        """These artifacts with all that they are made of. names: of the objects that are there."""
        kept = set(files) | set(folders)
        for digest in folders:
            kept.update((self._lines(digest) or {}).values())
        for digest in [name.removesuffix(PARTS) for name in names if name.endswith(PARTS)]:
            if digest in kept:
                kept.update((self.objects.get(self._key(digest, PARTS)) or b"").decode().split())
        return kept

    def _sweep(self, listed: Iterable[StoredObject], before: float, kept: Collection[str]) -> None:
        """Marks that no longer say anything, and what a killed collector left aside: what is needed goes back to its place."""
        used, aside = f"{self.folder}/used/", f"{self.folder}/aside/"
        for item in listed:
            if not item.key.startswith((used, aside)) or item.modified.timestamp() >= before:
                continue
            name = item.key.rpartition("/")[2]
            key = self._key(name)
            if item.key.startswith(aside) and name.removesuffix(PARTS) in kept and self.objects.look(key) is None:
                self.objects.copy(item.key, key)
            self.objects.delete([item.key])

    def _entries(self, listed: Iterable[StoredObject]) -> Iterator[tuple[str, StoredObject]]:
        """Objects of artifacts by name."""
        for item in listed:
            shelf, _, name = item.key.removeprefix(f"{self.folder}/").partition("/")
            if len(shelf) == 2:
                yield name, item

    def _marked(self, digest: str, before: float, mark: StoredObject | None = None) -> bool:
        mark = mark or self.objects.look(f"{self.folder}/used/{digest}")
        return mark is not None and mark.modified.timestamp() >= before

    def names(self) -> Iterator[str]:
        """Of the artifacts that are there."""
        return (name.removesuffix(PARTS) for name, _ in self._entries(self.objects.list(self.folder)))

    def age_s(self) -> float | None:
        """Seconds since something was written here; None where nothing is."""
        newest = max((item.modified for item in self.objects.list(self.folder)), default=None)
        return None if newest is None else (datetime.now(UTC) - newest).total_seconds()

    def clear(self) -> None:
        self.objects.delete([item.key for item in self.objects.list(self.folder)])


def in_turn(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the items' order, with AT_ONCE of them in memory at most."""
    under_way: deque[Future[R]] = deque()
    for item in items:
        if len(under_way) == AT_ONCE:
            yield under_way.popleft().result()
        under_way.append(pool.submit(work, item))
    while under_way:
        yield under_way.popleft().result()
