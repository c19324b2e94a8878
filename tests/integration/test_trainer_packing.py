"""Passes without padding learn what padded ones learn; a model whose rows would see each other keeps its padding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.spec import Spec
from services.trainer.train import packing, sft
from services.trainer.train.dpo import dpo
from services.trainer.train.model import load_base
from services.trainer.train.packing import Packing
from shared.contracts.steps import Method, StepKind
from tests.fakes.training import EXAMPLES, PAIRS, Ticks, spec_of, train_params
from tests.fakes.zoo import make

pytestmark = pytest.mark.usefixtures("one_thread")
WORK: dict[StepKind, Callable[[Spec, Any], dict[str, Any]]] = {StepKind.SFT: sft.fine_tune, StepKind.DPO: dpo}
ROWS = {StepKind.SFT: EXAMPLES, StepKind.DPO: PAIRS}


def uneven(rows: list[dict[str, str]], weighted: bool) -> list[dict[str, Any]]:
    """Of different lengths, and where asked of different weights."""
    return [
        row
        | {"question": row["question"] + " the" * (number % 4)}
        | ({"weight": 0.5 + 0.5 * (number % 2)} if weighted else {})
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("kind", "method", "weighted"),
    [
        (StepKind.SFT, Method.LORA, False),
        (StepKind.SFT, Method.FULL, True),
        (StepKind.DPO, Method.LORA, False),
        (StepKind.DPO, Method.LORA, True),
        (StepKind.DPO, Method.FULL, False),
    ],
)
def test_passes_without_padding_learn_what_padded_ones_do(
    kind: StepKind, method: Method, weighted: bool, base: Path, tmp_path: Path
):
    params = train_params(batch_size=4, epochs=2, method=method, learning_rate=1e-3)
    specs, figures = [], []
    for asked in (None, True):
        spec = spec_of(kind, params, uneven(ROWS[kind], weighted), base, tmp_path / str(asked))
        specs.append(spec := spec.model_copy(update={"padding_free": asked}))
        figures.append(WORK[kind](spec, Ticks()))
    padded, packed = figures
    assert "padding_free" not in padded
    assert packed["padding_free"] is True
    assert (packed["steps"], packed["trained_tokens"]) == (padded["steps"], padded["trained_tokens"])
    assert packed["loss"] == pytest.approx(padded["loss"], abs=2e-4)
    one, other = (load_file(next(spec.output.glob("*/*.safetensors"))) for spec in specs)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-4


def test_a_row_does_not_see_the_one_before_it(base: Path):
    """And the model is given no token of padding."""
    model = load_base(base)
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0], [11, 12, 13, 0]]), torch.ones(3, 4, dtype=torch.long)
    mask[1, 2:], mask[2, 3:] = 0, 0
    given: list[torch.Size] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, args: given.append(args[0].shape))
    packing = Packing(model)
    with torch.no_grad(), packing.rows(mask):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        other = model(input_ids=ids + (torch.arange(3) == 0)[:, None], attention_mask=mask, use_cache=False).logits
    assert given == [(1, 9), (1, 9)]
    assert torch.equal(logits[1:][mask[1:].bool()], other[1:][mask[1:].bool()])
    assert not torch.allclose(logits[0], other[0], atol=1e-3)
    alone = [model(input_ids=ids[n : n + 1, : mask[n].sum()]).logits[0] for n in range(3)]
    for row, wanted in zip(logits, alone, strict=True):
        assert torch.allclose(row[: len(wanted)], wanted, atol=1e-5)


def test_a_model_that_ignores_positions_is_padded_and_says_why(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """As a family does whose layers know the order of tokens alone."""
    before = Packing._pack

    def without_positions(self: Packing, body: Any, args: Any, given: dict[str, Any]) -> Any:
        asked = before(self, body, args, given)
        if asked is None:
            return None
        args, given = asked
        return args, given | {"position_ids": torch.arange(given["input_ids"].shape[1])[None]}

    monkeypatch.setattr(Packing, "_pack", without_positions)
    spec = spec_of(StepKind.SFT, train_params(epochs=1), uneven(EXAMPLES, False), base, tmp_path)
    figures = sft.fine_tune(spec.model_copy(update={"padding_free": True}), Ticks())
    assert "padding_free" not in figures
    assert "logits" in figures["padding_free_refused"]
    assert "passes are padded: " in capfd.readouterr().err


@pytest.mark.parametrize(("family", "why"), [("gpt-oss", "logits"), ("falcon-h1", "state")])
def test_a_family_that_mixes_rows_is_padded(family: str, why: str, tmp_path: Path):
    model = load_base(make(family, tmp_path / "model"))
    decision = packing.decide(model, [list(range(40, 90)), list(range(50, 75))], True)
    assert decision.packing is None
    assert why in decision.refused


def test_a_cpu_is_padded_unless_it_is_asked_otherwise(base: Path):
    rows = [[5, 6, 7], [8, 9]]
    assert packing.decide(load_base(base), rows, None) == (None, "")
    assert packing.decide(load_base(base), rows, False) == (None, "")
    assert packing.decide(load_base(base), rows, True).packing is not None
