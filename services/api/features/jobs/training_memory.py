"""What training a posted job's student takes of memory, from the base's config and the rows."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from services.api.features.jobs.posted import Posted
from shared.contracts.estimate import Range
from shared.contracts.json_types import Json
from shared.contracts.steps import Method
from shared.jobs.expected import NVIDIA, parameters_of
from shared.plan.rates import BYTES_PER_TOKEN, TEMPLATE

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

GB = 1e9
BATCH = 8  # rows of a training batch where the job names none
# Bytes of activations per token and layer, by width.
PER_HIDDEN, PER_INTERMEDIATE = 30.6, 8.2


class Shape(NamedTuple):
    """Of a base's config.json; None: unknown."""

    context: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    layers: int | None = None


def training_gb(posted: Posted) -> Range | None:
    """Weights and activations of the largest training: with rows of their mean length, and with the longest allowed. None where the
    base's shape is unknown here."""
    folder = folder_of(posted)
    parameters, shape = parameters_of(folder), shape_of(folder)
    if parameters is None or posted.data is None or not (shape.hidden and shape.layers):
        return None
    per_token = shape.layers * (PER_HIDDEN * shape.hidden + PER_INTERMEDIATE * (shape.intermediate or 4 * shape.hidden))
    batch = posted.request.hyperparameters.batch_size
    rows, longest = (BATCH if batch == "auto" else int(batch)), posted.spec.adapter.max_length
    weights = parameters * _bytes_each(posted)
    tokens = (
        tokens_of(posted.rows.column("question_bytes")) + tokens_of(posted.rows.column("reference_bytes")) + TEMPLATE
    )
    mean = min(float(tokens.mean()), longest) if len(tokens) else longest
    low, high = (
        weights + rows * length * per_token for length in (mean, min(longest, float(tokens.max(initial=mean))))
    )
    return Range(low=low / GB, high=high / GB)


def weights_gb(posted: Posted) -> float | None:
    """What the student's weights take in its training at least, with their gradients and moments where all of them are trained."""
    parameters = parameters_of(folder_of(posted))
    return None if parameters is None else parameters * _bytes_each(posted) / GB


def _bytes_each(posted: Posted) -> int:
    """Of a parameter in training."""
    return 16 if posted.spec.adapter.method is Method.FULL else 2 if NVIDIA.exists() else 4


@cache
def gpu_gb() -> float | None:
    """Memory of this machine's largest GPU; None where its driver does not say."""
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout
        return max(float(line) for line in told.split()) * 1024**2 / GB
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


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
