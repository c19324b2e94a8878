"""What a student's engine and its training take of a device's memory, by the figures of its config.json. Nothing is loaded.

Bytes of activations per token and layer were counted in what autograd keeps (docs/adr/0063-one-gpu.md); tests hold them against a real
training's, and the sums against published figures of 7B and 8B models.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from shared.contracts.json_types import Json
from shared.contracts.steps import AdapterConfig, Dtype, Method, Optim

GB = 1e9
NF4 = 0.516  # bytes of a weight in 4 bits, with its share of the doubly quantized scales
CONTEXT = 0.8 * GB  # CUDA's own, its libraries', and what fragments
ENGINE_OWN = 1.5 * GB  # the same for an engine, with its graphs and the profiling run's activations
CHUNK = 512  # tokens that are compared with the vocabulary at once
LOGIT = 10  # bytes of one: in bfloat16, in float32, and its gradient
GPU_TOKENS, CPU_TOKENS = 1024, 512  # of a pass that keeps the device busy


@dataclass(frozen=True)
class Figures:
    """Of a dense decoder. kv_width: of keys or values of a token in one layer. tied: the output layer is the embeddings."""

    parameters: float
    hidden: int
    intermediate: int
    layers: int
    kv_width: int
    query_width: int
    vocabulary: int
    tied: bool

    @property
    def embedded(self) -> float:
        """Parameters of embeddings and output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> float:
        """Parameters of one on all linear layers."""
        attention = 2 * (self.hidden + self.query_width) + 2 * (self.hidden + self.kv_width)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


class Kept(NamedTuple):
    """Bytes that autograd keeps for each token: per layer for each unit of hidden size, of intermediate size, and of the width by which
    keys and values are narrower."""

    hidden: float
    intermediate: float
    narrower: float


LORA = {4: Kept(32.0, 16.0, 8.0), 2: Kept(33.6, 9.5, 5.0)}  # by bytes of a base's weight in computation
FULL = {4: Kept(40.0, 16.0, 8.0), 2: Kept(24.0, 8.0, 4.0)}


class Need(NamedTuple):
    """Bytes."""

    weights: float
    gradients: float
    moments: float
    activations: float
    own: float

    @property
    def total(self) -> float:
        return sum(self)


def figures_of(config: Json, parameters: float) -> Figures | None:
    """None for a config that lacks a figure."""
    text = config.get("text_config") or config
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        head = int(text.get("head_dim") or hidden // heads)
        inner = text.get("intermediate_size") or 4 * hidden
        return Figures(
            parameters=parameters,
            hidden=hidden,
            intermediate=max(inner) if isinstance(inner, list) else int(inner),
            layers=int(text["num_hidden_layers"]),
            kv_width=head * int(text.get("num_key_value_heads") or heads),
            query_width=head * heads,
            vocabulary=int(text["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", True))),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def parameters_of(folder: Path | None) -> float | None:
    """Counted in the headers of the safetensors files: 8 bytes of length, then JSON with each tensor's shape. None: unknown."""
    try:
        total = 0
        for path in folder.glob("*.safetensors") if folder else ():
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return float(total) or None


@cache
def figures_in(folder: Path | None, parameters: float | None) -> Figures | None:
    """Of a model's folder."""
    try:
        return (
            figures_of(json.loads((folder / "config.json").read_text()), parameters) if folder and parameters else None
        )
    except (OSError, ValueError):
        return None


def may_be_shared(method: Method, adapter: AdapterConfig) -> bool:
    """Whether several devices can hold a training's base in parts (services/trainer/train/sharding.py): of an adapter on a base in 16
    or 32 bits."""
    return method is Method.LORA and not adapter.load_in_4bit and not adapter.use_dora


def training(
    figures: Figures,
    method: Method,
    adapter: AdapterConfig,
    tokens: float,
    gpu: bool,
    checkpointing: bool = False,
    compared: float = CHUNK,
    devices: int = 1,
) -> Need:
    """Of one device. tokens: of one pass. checkpointing: activations are kept at the layers' borders alone. compared: tokens whose logits
    are there at once; trainers that compute a whole pass's take as many as `tokens`. devices: that hold the base in parts, where it may
    be; a layer that is computed, the next one and the output layer are there whole."""
    full = method is Method.FULL
    narrow = gpu or adapter.dtype is Dtype.BFLOAT16
    width = 2 if narrow else 4
    trained = figures.parameters if full else figures.adapter(adapter.rank)
    each = (2 if adapter.dtype is Dtype.BFLOAT16 else 4) if full else 4
    if full:  # in bfloat16 the device computes with copies of weights in float32
        base = figures.parameters * (each + (2 if narrow and each == 4 else 0))
    elif adapter.load_in_4bit:
        base = figures.embedded * width + (figures.parameters - figures.embedded) * NF4
    else:
        base = figures.parameters * width
    if devices > 1 and may_be_shared(method, adapter):
        whole = 2 * (figures.parameters - figures.embedded) / figures.layers + figures.vocabulary * figures.hidden
        base = base / devices + whole * width
    weights = base if full else base + trained * 4
    moments = trained * (8 if adapter.optim is Optim.ADAMW else 2)
    kept = (FULL if full and each == 2 else LORA if narrow or not full else FULL)[width]
    layer = kept.hidden * figures.hidden + kept.intermediate * figures.intermediate
    layer -= kept.narrower * max(0, figures.hidden - figures.kv_width)
    borders = figures.layers * figures.hidden * width + layer
    activations = tokens * (borders if checkpointing else figures.layers * layer)
    logits = min(tokens, compared) * figures.vocabulary * LOGIT
    return Need(weights, trained * each, moments, activations + logits, CONTEXT if gpu else 0)


def engine(figures: Figures, context: int, gpu: bool = True) -> float:
    """Bytes of an engine that holds one request of a whole context: weights in bfloat16, keys and values."""
    values = 2 * figures.layers * figures.kv_width * 2 * context
    return figures.parameters * 2 + values + (ENGINE_OWN if gpu else 0)


def devices_needed(
    figures: Figures, method: Method, adapter: AdapterConfig, longest: float, room: float, there: int
) -> int | None:
    """How many GPUs, each with so many bytes of room, hold a training in parts; None: not even `there` of them."""
    if not may_be_shared(method, adapter):
        return None
    counts = range(2, there + 1)
    return next((n for n in counts if least(figures, method, adapter, longest, True, n) <= room), None)


def in_parts(devices: int) -> str:
    """For people: how so many GPUs come to hold a training together."""
    return f"let {devices} GPUs hold it in parts: set METEOR_TRAINER_GPUS to {','.join(map(str, range(devices)))}"


class Change(NamedTuple):
    """words: what to do, for people."""

    words: str
    method: Method
    adapter: AdapterConfig
    longest: float


def least(
    figures: Figures, method: Method, adapter: AdapterConfig, longest: float, gpu: bool, devices: int = 1
) -> float:
    """Bytes of a training on one device at least: one row of the longest at once, with gradient checkpointing."""
    return training(figures, method, adapter, longest, gpu, checkpointing=True, devices=devices).total


def at_ease(figures: Figures, method: Method, adapter: AdapterConfig, longest: float, batch: int, gpu: bool) -> float:
    """Bytes of a training whose passes keep the device busy, without gradient checkpointing."""
    busy = max(longest, min(GPU_TOKENS if gpu else CPU_TOKENS, batch * longest))
    return training(figures, method, adapter, busy, gpu).total


def changes(method: Method, adapter: AdapterConfig, longest: float) -> Iterator[Change]:
    """Ways to need less, those first that change the result least."""
    narrow = adapter.model_copy(update={"optim": Optim.ADAMW_8BIT})
    half = narrow.model_copy(update={"dtype": Dtype.BFLOAT16})
    if adapter.optim is Optim.ADAMW:
        yield Change("set distillation.adapter.optim to adamw_8bit", method, narrow, longest)
    if method is Method.FULL:
        if adapter.dtype is Dtype.FLOAT32:
            words = "set distillation.adapter.dtype to bfloat16 and optim to adamw_8bit"
            yield Change(words, method, half, longest)
        method, adapter = Method.LORA, adapter.model_copy(update={"optim": Optim.ADAMW, "dtype": Dtype.FLOAT32})
        yield Change("set distillation.adapter.method to lora", method, adapter, longest)
    if not adapter.load_in_4bit:
        adapter = adapter.model_copy(update={"load_in_4bit": True})
        first = "" if method is Method.LORA else "method to lora and "
        yield Change(f"set distillation.adapter.{first}load_in_4bit to true", method, adapter, longest)
    while longest > 256:
        longest = longest // 2
        words = f"set distillation.adapter.max_length to {longest:.0f}"
        yield Change(
            words + ("" if adapter.load_in_4bit is False else " and load_in_4bit to true"), method, adapter, longest
        )


def remedy(
    figures: Figures, method: Method, adapter: AdapterConfig, longest: float, room: float, gpu: bool, devices: int = 1
) -> str:
    """The first of the changes that fits into so many bytes. devices: with so much room each; where parts of the base fit on them,
    the job stays as it is."""
    if (parts := devices_needed(figures, method, adapter, longest, room, devices)) is not None:
        return in_parts(parts)
    for change in changes(method, adapter, longest):
        if least(figures, change.method, change.adapter, change.longest, gpu) <= room:
            return change.words
    return "take a smaller student, or let a trainer with a larger device serve the queue"
