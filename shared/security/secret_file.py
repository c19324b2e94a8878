"""Secrets that a data folder makes for itself: one file each, readable by its owner only."""

import os
import secrets
import tempfile
from pathlib import Path


def kept_secret(path: Path) -> str:
    """64 hexadecimal digits, made at the first call. Processes that make it at once all get the same."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")  # 0600, and so stays the secret
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            _link_once(Path(fresh), path)
        finally:
            Path(fresh).unlink()
    return path.read_text().strip()


def _link_once(fresh: Path, path: Path) -> None:
    """Unlike a rename, a link never replaces what another process has put there meanwhile."""
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return
