"""Copies of trained weights as an engine reads them: an adapter that names the engine's base, a whole model as it is."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from shared.artifacts.store import Artifacts

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # of an adapter
BASE = "base_model_name_or_path"


def serve_adapter(digest: str, artifacts: Artifacts, serving: Path, base: str) -> Path:
    """Place the serving copy of an adapter; base: as the engine was started with it. Raises ArtifactMissing."""

    def fill(folder: Path) -> None:
        adapter = artifacts.folder(digest)
        config = json.loads((adapter / CONFIG).read_bytes()) | {BASE: base}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
        shutil.copyfile(adapter / WEIGHTS, folder / WEIGHTS)

    return _place(serving / digest, fill)


def serve_weights(digest: str, artifacts: Artifacts, serving: Path) -> Path:
    """As serve_adapter, for a whole model; the serving copy links to the artifact's files where it can."""

    def fill(folder: Path) -> None:
        for path in artifacts.folder(digest).iterdir():
            link_or_copy(path, folder / path.name)

    return _place(serving / digest, fill)


def link_or_copy(path: Path, target: Path) -> None:
    """A hard link takes no space; between two disks the file is copied."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _place(target: Path, fill: Callable[[Path], None]) -> Path:
    """Create a folder with all of its files at once; an existing one stays as it is."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
    try:
        temporary.chmod(0o755)
        fill(temporary)
        temporary.rename(target)
    except OSError:
        if not target.exists():  # otherwise another process published the same content first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
