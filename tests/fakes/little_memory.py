"""A device of little memory: more tokens in one pass than it takes, and memory runs out as PyTorch says it."""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaModel


@contextmanager
def watched(look: Callable[[Any, int], None]) -> Generator[None]:
    """Each pass of a model is shown to look(model, tokens) first."""
    model: Any = LlamaModel
    forward = model.forward

    @functools.wraps(forward)
    def shown(self: Any, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        look(self, input_ids.numel())
        return forward(self, input_ids, *args, **kwargs)

    model.forward = shown
    try:
        yield
    finally:
        model.forward = forward


@contextmanager
def a_device_of(most: int, unless_checkpointing: bool = False) -> Generator[list[int]]:
    """Within it a model takes so many tokens in one pass; with more, memory runs out in the middle of the backward pass. Yields the
    passes that did not fit."""
    refused: list[int] = []

    def run_out(handle: Any) -> None:
        handle.remove()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def look(model: Any, tokens: int) -> None:
        if (
            not torch.is_grad_enabled()
            or tokens <= most
            or (unless_checkpointing and model.layers[0].gradient_checkpointing)
        ):
            return
        refused.append(tokens)
        handle = model.layers[0].register_full_backward_pre_hook(lambda *_: run_out(handle))

    with watched(look):
        yield refused
