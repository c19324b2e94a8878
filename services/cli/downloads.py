"""Files of an export: resumed where a connection broke off, checked by hash, unpacked."""

import hashlib
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from services.cli.client import ApiClient, Refused
from shared.contracts.errors import FatalError
from shared.contracts.exports import ExportFile
from shared.platform.terminal import console

ATTEMPTS = 5  # of one download; each continues where the last one broke off
PAUSE_S = 1.0
CHUNK = 1 << 20


def download(api: ApiClient, file: ExportFile, out: Path) -> Path:
    """Write one file into `out`. Raises Refused, and FatalError when the content has another hash."""
    part = out / f".{file.sha256[:16]}-{file.name}.part"
    columns = (TextColumn(file.name), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=file.bytes)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _continue(api.http, file, part, lambda done: progress.update(bar, completed=done))
                break
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise Refused(f"{file.name} cannot be fetched: {error}") from error
                time.sleep(PAUSE_S)
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != file.sha256:
        part.unlink()
        raise FatalError(f"{file.name} came with SHA-256 {digest} and not {file.sha256}; fetch it again")
    return part


def _continue(http: httpx.Client, file: ExportFile, part: Path, on_bytes: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= file.bytes:
        return
    headers = {"range": f"bytes={have}-", "if-range": f'"{file.sha256}"'}
    with http.stream("GET", file.url, headers=headers) as answer:
        if answer.is_error:
            answer.read()
            raise Refused(f"{file.name}: {answer.status_code} {answer.text[:300]}")
        with part.open("ab" if answer.status_code == 206 else "wb") as target:
            for chunk in answer.iter_bytes(CHUNK):
                target.write(chunk)
                on_bytes(target.tell())


def unpack(archive: Path, out: Path) -> Path:
    """Extract the archive's folder into `out` and remove the archive. Returns the folder."""
    with tarfile.open(archive) as tar:
        tar.extractall(out, filter="data")
        top = tar.getnames()[0].partition("/")[0]
    archive.unlink()
    return out / top
