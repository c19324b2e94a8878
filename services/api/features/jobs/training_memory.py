"""What training a posted job's student takes of memory, from the base's config and the rows."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from services.api.features.jobs.posted import Posted
from shared.contracts.device import DeviceSharing, engine_share
from shared.contracts.estimate import DeviceFit, Range
from shared.contracts.json_types import Json
from shared.contracts.steps import AdapterConfig
from shared.jobs.expected import NVIDIA
from shared.plan import device_memory
from shared.plan.device_memory import parameters_of
from shared.plan.rates import BYTES_PER_TOKEN, TEMPLATE

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

GB = 1e9
BATCH = 8  # rows of an optimiser step where the job names none


class Shape(NamedTuple):
    """Of a base's config.json; None: unknown."""

    context: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    layers: int | None = None


def training_gb(posted: Posted) -> Range | None:
    """Of the largest training: at least, with one row at once and gradient checkpointing; and at ease. None where the base's shape is
    unknown here."""
    figures = device_memory.figures_in(folder := folder_of(posted), parameters_of(folder))
    if figures is None or posted.data is None:
        return None
    wanted, gpu = posted.spec.adapter, NVIDIA.exists()
    batch = posted.request.hyperparameters.batch_size
    rows, longest, shape = BATCH if batch == "auto" else int(batch), longest_row(posted), plain(posted)
    low = device_memory.least(figures, wanted.method, shape, longest, gpu)
    high = device_memory.at_ease(figures, wanted.method, shape, longest, rows, gpu)
    return Range(low=low / GB, high=max(low, high) / GB)


def fit(posted: Posted) -> DeviceFit | None:
    """Whether engine and training fit on this machine's device, and what to change where they do not. None where that is not known."""
    there, need, engine = device_gb(), training_gb(posted), engine_gb(posted)
    if there is None or need is None:
        return None
    room, least = there - engine, need.low
    if least > room:
        least = min(least, in_parts_gb(posted, len(posted.context.settings.trainer_gpus.split(","))))
    fits = least <= room
    return DeviceFit(
        device="gpu" if NVIDIA.exists() else "cpu",
        device_gb=there,
        engine_gb=engine,
        training_gb=least,
        fits=fits,
        remedy="" if fits else remedy(posted, room),
    )


def in_parts_gb(posted: Posted, devices: int) -> float:
    """What the training takes at least of each of so many devices, which hold its base together where they can."""
    figures = device_memory.figures_in(folder := folder_of(posted), parameters_of(folder))
    assert figures is not None
    method, longest = posted.spec.adapter.method, longest_row(posted)
    return device_memory.least(figures, method, plain(posted), longest, NVIDIA.exists(), devices) / GB


def remedy(posted: Posted, room_gb: float) -> str:
    """What would make the training fit into so much of each device."""
    figures = device_memory.figures_in(folder := folder_of(posted), parameters_of(folder))
    assert figures is not None
    method, gpu = posted.spec.adapter.method, NVIDIA.exists()
    return device_memory.remedy(figures, method, plain(posted), longest_row(posted), room_gb * GB, gpu, gpu_count())


def engine_gb(posted: Posted) -> float:
    """What the student's engine holds of the device during a training: its share of a GPU, or nothing where it lends the device. An
    engine of the user's own is elsewhere."""
    sharing = posted.context.platform.device_sharing
    if not posted.context.swaps or not NVIDIA.exists() or sharing is DeviceSharing.TIME:
        return 0.0
    return engine_share(posted.context.settings.engine_gpu_share, sharing) * (gpu_gb() or 0.0)


def device_gb() -> float | None:
    """Of what trains on this machine: its GPU where it has one. None where the driver does not say."""
    return gpu_gb() if NVIDIA.exists() else psutil.virtual_memory().total / GB


def plain(posted: Posted) -> AdapterConfig:
    """The adapter's settings without the method."""
    return AdapterConfig.model_validate(posted.spec.adapter.model_dump(exclude={"method"}))


def longest_row(posted: Posted) -> float:
    """About how many tokens the longest row of a training has."""
    tokens = (
        tokens_of(posted.rows.column("question_bytes")) + tokens_of(posted.rows.column("reference_bytes")) + TEMPLATE
    )
    longest = posted.spec.adapter.max_length
    return min(float(tokens.max()), longest) if len(tokens) else longest


def gpu_gb() -> float | None:
    """Memory of this machine's largest GPU; None where its driver does not say."""
    return max(_gpus(), default=None)


def gpu_count() -> int:
    return len(_gpus())


@cache
def _gpus() -> tuple[float, ...]:
    """GB of each; nothing where the driver does not say."""
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout
        return tuple(float(line) * 1024**2 / GB for line in told.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def folder_of(posted: Posted) -> Path | None:
    base = posted.context.bases.find(posted.request.model)
    return base.folder if base is not None else None


def tokens_of(utf8_bytes: "np.ndarray") -> "np.ndarray":
    """About how many tokens texts of these lengths have."""
    return utf8_bytes / BYTES_PER_TOKEN


@cache
def shape_of(folder: Path | None) -> Shape:
    """Of a folder's config.json; a model that also sees or hears has its text part inside."""
    try:
        config: Json = json.loads((folder / "config.json").read_text()) if folder else {}
        text = config.get("text_config") or config
        names = ("max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers")
        return Shape(*(value if isinstance(value := text.get(name), int) else None for name in names))
    except (OSError, ValueError, AttributeError):
        return Shape()
