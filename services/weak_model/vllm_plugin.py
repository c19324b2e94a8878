"""A plugin of vLLM's that makes LoRA on a CPU quick: one matrix product per adapter instead of one per token; and lets a mixture of
experts have adapters there.

vLLM's CPU fallback copies the adapter's weights once for every token of a batch (vllm/lora/ops/torch_ops). It also reads
the last slot's weights for tokens that have no adapter (index -1). Here the tokens of each adapter are multiplied
together, and tokens without one get nothing. For any model with adapters vLLM computes experts by kernels for GPUs, whether
an adapter sits on them or not; here none does (--lora-target-modules). Loaded by vLLM inside its own processes (entry point
`vllm.general_plugins`, see pyproject.toml and docs/adr/0008); the one module of this service that imports torch and vLLM.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHOOSES_EXPERTS = "select_unquantized_moe_backend"  # vLLM keeps it to itself, so it is set by its name


def register() -> None:
    """Called by vLLM at the start of each of its processes. On other devices it changes nothing that is used."""
    from vllm.lora.punica_wrapper import punica_cpu
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        _compute_experts_on_cpu()
    for function in (bgmv_shrink, bgmv_expand, bgmv_expand_slice, sgmv_shrink, sgmv_expand, sgmv_expand_slice):
        setattr(punica_cpu, function.__name__, function)


def _compute_experts_on_cpu() -> None:
    from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as method

    select = getattr(method, CHOOSES_EXPERTS)

    def without_adapters(moe_config: Any) -> Any:
        moe_config.is_lora_enabled = False
        return select(moe_config)

    setattr(method, CHOOSES_EXPERTS, without_adapters)


def _groups(weights: Tensor, indices: Tensor, tokens: int) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """(rows of the batch, their adapter's matrix [out, in]); a slice where all tokens share one adapter.

    weights: [slots, (1,) out, in].  indices: [tokens], -1 without an adapter.
    """
    matrices = weights.squeeze(1) if weights.dim() == 4 else weights
    indices = indices[:tokens]
    slots = indices.unique().tolist()
    for slot in slots:
        if slot >= 0:
            rows = slice(0, tokens) if len(slots) == 1 else (indices == slot).nonzero().squeeze(1)
            yield rows, matrices[slot]


def bgmv_shrink(
    inputs: Tensor, lora_b_weights: Tensor, output_tensor: Tensor, lora_indices_tensor: Tensor, scaling: float = 1.0
) -> None:
    """output[:, :rank] = scaling * inputs @ A.T, zero for tokens without an adapter."""
    rank = lora_b_weights.shape[-2]
    output_tensor[:, :rank] = 0
    for rows, matrix in _groups(lora_b_weights, lora_indices_tensor, inputs.shape[0]):
        product = inputs[rows].to(output_tensor.dtype) @ matrix.to(output_tensor.dtype).T
        output_tensor[rows, :rank] = scaling * product


def bgmv_expand_slice(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """output[:, offset : offset + size] (+)= inputs @ B.T."""
    part = output_tensor[:, slice_offset : slice_offset + slice_size]
    if not add_inputs:
        part.zero_()
    width = min(part.shape[1], lora_b_weights.shape[-2])  # adapter and model may pad the vocabulary differently
    for rows, matrix in _groups(lora_b_weights, lora_indices_tensor, inputs.shape[0]):
        product = inputs[rows].to(output_tensor.dtype) @ matrix.to(output_tensor.dtype).T
        part[rows, :width] += product[:, :width]


def bgmv_expand(
    inputs: Tensor, lora_b_weights: Tensor, output_tensor: Tensor, lora_indices_tensor: Tensor, add_inputs: bool = True
) -> None:
    size = output_tensor.shape[1]
    bgmv_expand_slice(inputs, lora_b_weights, output_tensor, lora_indices_tensor, 0, size, add_inputs)


# The sgmv forms are told the sequences' lengths instead of one index per token.


def sgmv_shrink(inputs, weights, output, starts, lengths, indices, batches, longest, tokens, scaling) -> None:
    bgmv_shrink(inputs, weights, output, torch.repeat_interleave(indices, lengths), scaling)


def sgmv_expand(inputs, weights, output, starts, lengths, indices, batches, longest, tokens, add_inputs=False) -> None:
    bgmv_expand(inputs, weights, output, torch.repeat_interleave(indices, lengths), add_inputs)


def sgmv_expand_slice(
    inputs, weights, output, starts, lengths, indices, batches, longest, tokens, offset, size, add_inputs=False
) -> None:
    bgmv_expand_slice(inputs, weights, output, torch.repeat_interleave(indices, lengths), offset, size, add_inputs)
