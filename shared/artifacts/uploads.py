"""Uploaded bytes by SHA-256: in a folder of this machine, or on object storage with copies here."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.platform.file_lock import only_one


@dataclass(frozen=True)
class Uploads:
    """folder: where uploads arrive; without `store` also where they stay, each under its SHA-256."""

    folder: Path
    store: Artifacts | None = None

    def alone(self) -> AbstractContextManager[None]:
        """Serializes arrivals and removals in a folder over all processes: they may concern the same content. On object storage `check`
        and `still_needed` settle that, over all machines."""
        return only_one(self.folder / ".lock") if self.store is None else nullcontext()

    def path(self, sha256: str) -> Path:
        """Where the bytes lie; where they are gone, nothing does."""
        if self.store is not None:
            with suppress(ArtifactMissing):
                return self.store.file(sha256)
        return self.folder / sha256

    def add(self, source: Path, sha256: str) -> None:
        """Move a file in."""
        if self.store is None:
            os.replace(source, self.folder / sha256)
        else:
            self.store.put_file(source, sha256)

    def check(self, sha256: str) -> None:
        """After its row was written: whoever removed equal bytes meanwhile had not seen that row. Puts them back."""
        if self.store is not None and self.store.remote is not None and not self.store.remote.has(sha256):
            self.store.remote.put_file(sha256, self.store.file(sha256))

    def remove(self, sha256: str, still_needed: Callable[[], bool]) -> None:
        """still_needed: whether a file has the same content."""
        if still_needed():
            return
        if self.store is None:
            (self.folder / sha256).unlink(missing_ok=True)
        else:
            self.store.remove(sha256, still_needed)
