"""Log-probabilities of tokens that a text has, and those of a few training rows with and without the trained adapter.

The latter are kept beside the adapter; the engine's are compared with them before it is asked (services/weak_model).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from services.trainer.train.data import IGNORED, ExampleIds, PairIds
from shared.contracts.adapter_check import AdapterLogprobs, ScoredRow

MOST_ROWS = 4
LONGEST = 256  # tokens; longer rows are measured only where there is no shorter one
DIGITS = 4


class Sample(NamedTuple):
    """scored: the places in ids whose tokens are learned."""

    ids: list[int]
    scored: list[int]


def of_example(row: ExampleIds) -> Sample:
    places = [place for place, label in enumerate(row["labels"]) if label != IGNORED and place]
    return Sample(row["input_ids"], places)


def of_pair(row: PairIds) -> Sample:
    """The chosen side."""
    return sides_of_pair(row)[0]


@torch.no_grad()  # FSDP would keep what it gathers in inference mode, and could not train with it
def token_logprobs(model: PreTrainedModel | PeftModel, ids: list[int], places: Sequence[int]) -> torch.Tensor:
    """Of the tokens at these places, in nats, float32. A place is at least 1 and below the number of ids."""
    first = min(places)
    inputs = torch.tensor([ids], device=cast(PreTrainedModel, model).device)
    logits = model(input_ids=inputs, use_cache=False, logits_to_keep=len(ids) - first + 1).logits[0]
    at = torch.tensor(places, device=inputs.device)
    rows = logits[at - first].float().log_softmax(-1)  # row 0 foretells the token at `first`
    return rows.gather(1, inputs[0, at, None])[:, 0]


def sides_of_pair(row: PairIds) -> tuple[Sample, Sample]:
    first = max(1, len(row["prompt_ids"]))
    chosen, rejected = (row["prompt_ids"] + ids for ids in (row["chosen_ids"], row["rejected_ids"]))
    return Sample(chosen, list(range(first, len(chosen)))), Sample(rejected, list(range(first, len(rejected))))


def with_and_without(model: PeftModel, samples: Sequence[Sample]) -> AdapterLogprobs:
    """Of a few of the samples."""
    fitting = [sample for sample in samples if sample.scored and len(sample.ids) <= LONGEST][:MOST_ROWS]
    chosen = fitting or [min((sample for sample in samples if sample.scored), key=lambda sample: len(sample.ids))]
    with answering(model):
        rows = []
        for ids, scored in chosen:
            adapted = _rounded(token_logprobs(model, ids, scored))
            with model.disable_adapter():
                base = _rounded(token_logprobs(model, ids, scored))
            rows.append(ScoredRow(ids=ids, scored=scored, base=base, adapter=adapted))
    return AdapterLogprobs(rows=rows)


@contextmanager
def answering(model: PreTrainedModel | PeftModel) -> Generator[None]:
    """The model as it answers: no dropout, and the trained adapter where a frozen reference is beside it."""
    if isinstance(model, PeftModel):
        model.set_adapter("default")
    training = model.training
    model.eval()
    yield
    model.train(training)


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]
