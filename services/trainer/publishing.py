"""Publishes what a training left: an artifact by content hash, and a copy in the folder that the engine serves from."""

from pathlib import Path

from services.trainer.settings import TrainerSettings
from shared.artifacts.bases import Bases
from shared.artifacts.serving import CONFIG, WEIGHTS, serve_adapter, serve_weights
from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import FILE
from shared.contracts.errors import FatalError


def serving_base(settings: TrainerSettings, bases: Bases, base: str) -> str:
    """The base's name as the engine was started with it; its resolver compares an adapter's base with exactly this."""
    if settings.serving_base and base == bases.default.name:
        return settings.serving_base
    entry = bases.find(base)
    return str(entry.folder if entry else base)


def publish(adapter: Path, artifacts: Artifacts, serving: Path, base: str) -> str:
    """Store an adapter and place its serving copy; returns the content hash.

    The artifact names the canonical base, the same on every machine, and holds the trainer's log-probabilities; the serving copy
    names the engine's spelling. On object storage an engine of any machine makes that copy itself.
    Raises FatalError when the folder holds anything but an adapter.
    """
    names = {path.name for path in adapter.iterdir()}
    if names - {FILE} != {CONFIG, WEIGHTS}:
        raise FatalError(f"{adapter} is not an adapter alone: {sorted(names)}")
    digest = artifacts.put_folder(adapter)
    if artifacts.remote is None:
        serve_adapter(digest, artifacts, serving, base)
    return digest


def publish_weights(weights: Path, artifacts: Artifacts, serving: Path) -> str:
    """As publish, for a whole model."""
    names = {path.name for path in weights.iterdir()}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise FatalError(f"{weights} is not a model folder: {sorted(names)}")
    digest = artifacts.put_folder(weights)
    if artifacts.remote is None:
        serve_weights(digest, artifacts, serving)
    return digest
