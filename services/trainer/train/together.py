"""How several processes train one model together. Each takes some of a step's passes, with a copy of the model or, of a base in
parts (sharding.py), with a copy of the adapter.

Gradients are added once per step, when the passes of all processes have fitted. With a single process all of this has no effect.
"""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from transformers import Trainer

from services.trainer.train.model import device
from services.trainer.train.passes import Pass
from services.trainer.train.processes import count, rank

LOADING = timedelta(hours=2)  # processes read their parts of a large base at different speeds


def start() -> None:
    """The processes' connection, where it is needed before the trainer makes it."""
    if not dist.is_initialized():
        gpu = device() if device().type == "cuda" else None
        dist.init_process_group("gloo" if gpu is None else "nccl", device_id=gpu, timeout=LOADING)


def share(parts: Sequence[Pass]) -> Sequence[Pass]:
    """This process's passes of a step."""
    return parts[rank() :: count()]


def apart(trainer: Trainer, model: Any) -> AbstractContextManager[None]:
    """Within it no pass waits for another process: neither gradients nor figures are exchanged."""
    return nullcontext() if count() == 1 else _apart(trainer, model)


@contextmanager
def _apart(trainer: Trainer, model: Any) -> Generator[None]:
    accelerator = cast(Any, trainer.accelerator)
    gather = accelerator.gather_for_metrics, accelerator.gather
    accelerator.gather_for_metrics = accelerator.gather = lambda figures, *_, **__: figures
    try:
        with accelerator.no_sync(model):
            yield
    finally:
        accelerator.gather_for_metrics, accelerator.gather = gather


def add_up(
    trainer: Trainer, loss: torch.Tensor, figures: dict[str, list[Any]], parts: int, before: dict[str, int]
) -> torch.Tensor:
    """The step's loss over all processes; their gradients are added, their figures put in the order of the passes."""
    if count() == 1:
        return loss
    _add_gradients(cast(torch.nn.Module, trainer.model))
    dist.all_reduce(loss)
    _join_figures(figures, parts, before)
    return loss


def _add_gradients(model: torch.nn.Module) -> None:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in weights:
        if weight.grad is None:  # this process had no pass
            weight.grad = torch.zeros_like(weight)
    for dtype in {weight.dtype for weight in weights}:
        gradients = [cast(torch.Tensor, weight.grad) for weight in weights if weight.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _join_figures(figures: dict[str, list[Any]], parts: int, before: dict[str, int]) -> None:
    """A figure of each pass, as if one process had run them all; figures of the whole training (a count) are left."""
    own = {name: [float(value) for value in values[before.get(name, 0) :]] for name, values in figures.items()}
    everyone = _of_all(own)
    for name in {name for one in everyone for name in one}:
        there = [one.get(name, []) for one in everyone]
        if sum(map(len, there)) == parts:
            joined = [there[number % count()][number // count()] for number in range(parts)]
            figures[name][before.get(name, 0) :] = joined


def agreed(decision: bool) -> bool:
    """The first process's decision, for all."""
    if count() == 1:
        return decision
    told = [decision]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def everywhere(true: bool) -> bool:
    """Whether it is true of every process."""
    return least(int(true)) == 1


def least(number: int) -> int:
    """Of the processes' numbers."""
    if count() == 1:
        return number
    told = torch.tensor(number, device=device())
    dist.all_reduce(told, op=dist.ReduceOp.MIN)
    return int(told)


def joined(own: dict[int, Any]) -> dict[int, Any]:
    """What the processes found, each for keys of its own."""
    return {key: value for one in _of_all(own) for key, value in one.items()}


def _of_all(own: Any) -> list[Any]:
    everyone: list[Any] = [None] * count()
    dist.all_gather_object(everyone, own)
    return everyone
