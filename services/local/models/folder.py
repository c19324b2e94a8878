"""What a model folder must hold, read from its files alone: no model library, no gigabytes."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from shared.contracts.errors import UserError

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".gguf", ".ckpt", ".msgpack", ".h5", ".onnx")
MODEL_TYPE = re.compile(r'^    model_type\s*(?::\s*\w+\s*)?=\s*"([^"]+)"', re.MULTILINE)


class ModelRefused(UserError):
    code = "model_refused"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json. Raises ModelRefused when the folder is no model."""
    if not folder.is_dir():
        raise ModelRefused(f"{folder} is no folder")
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = config.get("model_type")
    except FileNotFoundError as error:
        raise ModelRefused(_without_config(folder)) from error
    except (ValueError, AttributeError) as error:
        raise ModelRefused(f"{folder}/config.json is not a JSON object") from error
    if not kind:
        raise ModelRefused(f"{folder}/config.json names no model_type")
    return config


def _without_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return (
            f"{folder} is a LoRA adapter, not a model: it has adapter_config.json and no config.json. Merge it into its base "
            "(merge_and_unload of peft, then save_pretrained), and name that folder"
        )
    if any(folder.glob("*.gguf")):
        return (
            f"{folder} holds GGUF files and no config.json; training needs the model's safetensors: name the repository "
            "that the GGUF was made from"
        )
    return f"{folder} has no config.json: it is not a model folder"


def check_config(config: dict[str, Any], where: str) -> None:
    """Raises ModelRefused for weights and code that are not loaded, with what to do instead."""
    quantised = config.get("quantization_config") or (text_part(config) or {}).get("quantization_config")
    if quantised:
        how = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        bits = quantised.get("bits") or (
            4 if quantised.get("load_in_4bit") else 8 if quantised.get("load_in_8bit") else 0
        )
        raise ModelRefused(
            f"{where} has quantised weights ({how}{f', {bits} bit' if bits else ''}), which cannot be trained and exported here. "
            "Name the unquantised repository that it was made from (bfloat16 or float16 weights)"
        )
    kind, known = config["model_type"], known_types()
    if known and kind not in known:
        if config.get("auto_map"):
            raise ModelRefused(
                f"{where} brings code of its own (auto_map in config.json), which is never run; the installed transformers "
                f"does not know model_type {kind!r} without it. Name a model of a known family, or a copy of this one "
                "in transformers' own format"
            )
        raise ModelRefused(
            f"{where} has model_type {kind!r}, which the installed transformers does not know; name a model of a known "
            "family, or install a METEOR with newer libraries"
        )


@cache
def known_types() -> frozenset[str]:
    """The model types of the installed transformers, read from its sources, since importing it takes seconds. Empty
    where it is not installed."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    models = Path(next(iter(spec.submodule_search_locations))) / "models"
    files = models.glob("*/configuration_*.py")
    return frozenset(kind for path in files for kind in MODEL_TYPE.findall(path.read_text("utf-8")))


def text_part(config: dict[str, Any]) -> dict[str, Any] | None:
    """The language model's config inside that of a model of several senses; None for a plain text model."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else None


def check_folder(folder: Path) -> dict[str, Any]:
    """The config of a folder with safetensors. Raises ModelRefused."""
    config = read_config(folder)
    if not any(folder.glob("*.safetensors")):
        others = sorted(path.name for path in folder.glob("*") if path.suffix in OTHER_WEIGHTS)
        hint = (
            f" (it has {', '.join(others)}; only safetensors are loaded: convert it with save_pretrained of transformers, "
            "or name a repository with safetensors)"
            if others
            else ""
        )
        raise ModelRefused(f"{folder} has no *.safetensors{hint}")
    check_config(config, str(folder))
    _check_index(folder)
    return config


def _check_index(folder: Path) -> None:
    """Raises ModelRefused when a file that the index of the weights names is missing."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return
    try:
        wanted = set(json.loads(path.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelRefused(f"{path} is not an index of weights: {error!r}") from error
    missing = sorted(name for name in wanted if not (folder / str(name)).is_file())
    if missing:
        raise ModelRefused(f"{folder} lacks {', '.join(missing[:3])}, which its index names: fetch the model again")
