"""Publishes what a training left: an artifact by content hash, and a copy in the folder that the engine serves from."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from services.trainer.settings import TrainerSettings
from shared.artifacts.bases import Bases
from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import FILE
from shared.contracts.errors import FatalError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def serving_base(settings: TrainerSettings, bases: Bases, base: str) -> str:
    """The base's name as the engine was started with it; its resolver compares an adapter's base with exactly this."""
    if settings.serving_base and base == bases.default.name:
        return settings.serving_base
    entry = bases.find(base)
    return str(entry.folder if entry else base)


def publish(adapter: Path, artifacts: Artifacts, serving: Path, base: str) -> str:
    """Store an adapter and place its serving copy; returns the content hash.

    The artifact names the canonical base, the same on every machine, and holds the trainer's log-probabilities; the serving copy
    names the engine's spelling.
    Raises FatalError when the folder holds anything but an adapter.
    """
    names = {path.name for path in adapter.iterdir()}
    if names - {FILE} != {CONFIG, WEIGHTS}:
        raise FatalError(f"{adapter} is not an adapter alone: {sorted(names)}")
    digest = artifacts.put_folder(adapter)

    def fill(folder: Path) -> None:
        config = json.loads((adapter / CONFIG).read_bytes()) | {"base_model_name_or_path": base}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
        shutil.copyfile(artifacts.folder(digest) / WEIGHTS, folder / WEIGHTS)

    _place(serving / digest, fill)
    return digest


def publish_weights(weights: Path, artifacts: Artifacts, serving: Path) -> str:
    """As publish, for a whole model; the serving copy links to the artifact's files where it can."""
    names = {path.name for path in weights.iterdir()}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise FatalError(f"{weights} is not a model folder: {sorted(names)}")
    digest = artifacts.put_folder(weights)

    def fill(folder: Path) -> None:
        for path in artifacts.folder(digest).iterdir():
            link_or_copy(path, folder / path.name)

    _place(serving / digest, fill)
    return digest


def link_or_copy(path: Path, target: Path) -> None:
    """A hard link takes no space; between two disks the file is copied."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _place(target: Path, fill: Callable[[Path], None]) -> None:
    """Create a folder with all of its files at once; an existing one stays as it is."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
    try:
        temporary.chmod(0o755)
        fill(temporary)
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.exists():  # otherwise another process published the same content first
            raise
