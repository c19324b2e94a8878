"""Rows that weigh less in training count less in its loss, and those of weight 1 as ever."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.spec import Spec
from services.trainer.train import sft
from shared.contracts.rows import Example
from shared.contracts.steps import AdapterConfig, ModelRef, StepKind, TrainParams
from tests.fakes.tiny_model import make_tiny_llama

ROWS = [("Which command lists files?", "ls -la"), ("How many lines?", "wc -l")]


def loss_of(base: Path, folder: Path, weights: list[float], which: list[int]) -> tuple[float, int]:
    """(loss of one batch, tokens that it is over)"""
    model = ModelRef(base="tiny", base_hash="0" * 64)
    params = TrainParams(
        model=model, adapter=AdapterConfig(max_length=128), epochs=1, learning_rate=1e-4, batch_size=2, seed=0
    )
    examples = [
        Example(id=str(n), question=ROWS[n][0], completion=ROWS[n][1], weight=weight)
        for n, weight in zip(which, weights, strict=True)
    ]
    spec = Spec(
        kind=StepKind.SFT,
        params=params.model_dump(mode="json"),
        rows=[row.model_dump(mode="json") for row in examples],
        base=base,
        adapter=None,
        output=folder / "out",
        checkpoints=folder / "checkpoints",
    )
    trainer, _ = sft.build(spec, params, examples)
    batch: dict[str, Any] = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    tokens = int((batch["labels"] != -100).sum())
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(tokens))), tokens


def test_a_rows_weight_scales_what_its_tokens_add_to_the_loss(tmp_path: Path):
    base = make_tiny_llama(tmp_path / "model", seed=1)
    (first, of_first), (second, of_second) = (loss_of(base, tmp_path, [1.0], [n]) for n in (0, 1))
    plain, tokens = loss_of(base, tmp_path, [1.0, 1.0], [0, 1])
    weighted, _ = loss_of(base, tmp_path, [1.0, 0.25], [0, 1])
    assert tokens == of_first + of_second
    assert plain == pytest.approx((first * of_first + second * of_second) / tokens, rel=1e-4)
    assert weighted == pytest.approx((first * of_first + 0.25 * second * of_second) / tokens, rel=1e-4)
