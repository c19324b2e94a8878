"""A pass without padding: the model's body gets the rows one after another, as one row whose positions begin anew with each.

The body packs what it is given and pads what it returns, so losses see rows as ever. Attention keeps the rows apart by their positions:
flash-attn by where each begins, others by a mask. A probe before the first step says whether it does.
"""

import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.modeling_flash_attention_utils import _get_unpad_data, _pad_input
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from services.trainer.train import architecture, logprobs, together
from services.trainer.train.failures import is_out_of_memory
from services.trainer.train.model import device

KERNELS = {"flash_attention_3": is_flash_attn_3_available, "flash_attention_2": is_flash_attn_2_available}
CHUNKED = "attention_chunk_size"  # such attention counts tokens of the pass, not of the row
TRIED = (48, 32)  # tokens of the rows of a probe, at most
# Distance of two computations of the same logits, by their length, that rounding explains; a row that sees another's tokens is
# compared with a tenth of it.
NEAR = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


class Layout(NamedTuple):
    """Where the tokens of padded rows are. places: among those of all rows. starts: of each row, and the end."""

    rows: int
    width: int
    places: torch.Tensor
    positions: torch.Tensor
    starts: torch.Tensor
    longest: int

    @classmethod
    def of(cls, mask: torch.Tensor) -> "Layout":
        places, starts, longest = _get_unpad_data(mask)
        rows, width = mask.shape
        return cls(rows, width, places, (mask.cumsum(1) - 1)[mask.bool()], starts, int(longest))


class Packing:
    """Of one model. Only within `rows` does its body pack."""

    def __init__(self, model: PreTrainedModel | PeftModel):
        body = causal(model).base_model
        self._hooks = (
            body.register_forward_pre_hook(self._pack, with_kwargs=True),
            body.register_forward_hook(self._pad),
        )
        self._layout: Layout | None = None

    @contextmanager
    def rows(self, mask: torch.Tensor) -> Generator[None]:
        """Within it the model is given rows with this mask, padded on the right. The mask is best on the host: nothing waits there."""
        self._layout = Layout.of(mask)
        try:
            yield
        finally:
            self._layout = None

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _pack(self, body: torch.nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        layout = self._layout
        if layout is None:
            return None
        ids = given["input_ids"]
        places, positions, starts = (
            tensor.to(ids.device, non_blocking=True) for tensor in (layout.places, layout.positions, layout.starts)
        )
        packed = {
            "input_ids": ids.reshape(-1)[places][None],
            "attention_mask": None,  # else the positions would not be asked for where a row begins
            "position_ids": positions[None],
            "use_cache": False,
            "cu_seq_lens_q": starts,
            "cu_seq_lens_k": starts,
            "max_length_q": layout.longest,
            "max_length_k": layout.longest,
        }
        return args, given | packed

    def _pad(self, body: torch.nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        layout = self._layout
        if layout is not None:
            states = output.last_hidden_state
            places = layout.places.to(states.device, non_blocking=True)
            output["last_hidden_state"] = _pad_input(states[0], places, layout.rows, layout.width)
        return output


def packed(packing: Packing | None, mask: torch.Tensor) -> AbstractContextManager[None]:
    """One row has no padding, and needs none of this."""
    return nullcontext() if packing is None or len(mask) == 1 else packing.rows(mask)


class Decision(NamedTuple):
    """packing: None for padded passes. refused: why, where they were not asked for."""

    packing: Packing | None = None
    refused: str = ""


def decide(model: PreTrainedModel | PeftModel, rows: Sequence[Sequence[int]], wanted: bool | None) -> Decision:
    """Whether a model's passes go without padding, the same for every process. rows: token ids of two of the training's.

    wanted: None where flash-attn is installed for this device; True also with the model's own attention, whose mask grows with the square
    of a pass's tokens. Where the probe finds rows that see each other, the model is left as it was.
    """
    if wanted is False or (wanted is None and kernel() is None):
        return Decision()
    own = causal(model)
    attention = own.config._attn_implementation
    padded = _logits(model, *_padded(rows), None)
    packing, refused = Packing(model), ""
    try:
        if (flash := kernel()) and attention != "eager":  # what asks for eager, flash-attn may leave out
            own.set_attn_implementation(flash)
        refused = _differs(model, packing, rows, padded)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        refused = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    if together.everywhere(not refused):
        return Decision(packing)
    packing.remove()
    own.set_attn_implementation(attention)
    refused = refused or "another process found that rows see each other"
    sys.stderr.write(f"passes are padded: {refused}\n")
    return Decision(None, refused)


def kernel() -> str | None:
    """flash-attn's newest for this device, in transformers' name."""
    return next((name for name, there in KERNELS.items() if there()), None) if device().type == "cuda" else None


def _differs(
    model: PreTrainedModel | PeftModel, packing: Packing, rows: Sequence[Sequence[int]], padded: torch.Tensor
) -> str:
    """What is wrong with packed rows; nothing where they are as the padded ones, and the second does not depend on the first."""
    if architecture.is_hybrid(causal(model)):
        return "its layers carry a state from each token to the next, also from row to row"
    if getattr(causal(model).config.get_text_config(), CHUNKED, None):
        return "attention in chunks would cut rows that are not at a chunk's border"
    ids, mask = _padded(rows)
    other = ids.clone()
    other[0] = ids[0].flip(0)
    ours, changed = _logits(model, ids, mask, packing), _logits(model, other, mask, packing)
    near = NEAR[torch.bfloat16 if device().type == "cuda" else torch.float32]
    kept = mask.bool()
    if (far := _distance(ours[kept], padded[kept])) > near:
        return f"logits of packed rows differ from those of padded ones by {far:.1%}"
    if (far := _distance(changed[1][kept[1]], ours[1][kept[1]])) > near / 10:
        return f"the tokens of one row change the logits of the next one by {far:.1%}"
    return ""


def _padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) of two rows of different lengths."""
    first, second = (list(row[:most]) for row, most in zip(rows, TRIED, strict=True))
    if len(first) <= len(second):
        first = (first + second)[: len(second) + 8]
    ids = torch.zeros(2, len(first), dtype=torch.long)
    ids[0], ids[1, : len(second)] = torch.tensor(first), torch.tensor(second)
    mask = torch.zeros_like(ids)
    mask[0], mask[1, : len(second)] = 1, 1
    return ids, mask


@torch.no_grad()
def _logits(
    model: PreTrainedModel | PeftModel, ids: torch.Tensor, mask: torch.Tensor, packing: Packing | None
) -> torch.Tensor:
    """As training computes them, but without dropout."""
    there = device()
    autocast = torch.autocast(there.type, torch.bfloat16, enabled=there.type == "cuda")
    with logprobs.answering(model), packed(packing, mask), autocast:
        return model(input_ids=ids.to(there), attention_mask=mask.to(there), use_cache=False).logits.float()


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def causal(model: PreTrainedModel | PeftModel) -> Any:
    """The language model itself, below an adapter."""
    return cast(Any, model.get_base_model() if isinstance(model, PeftModel) else model)
