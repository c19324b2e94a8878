"""What TRL teaches an adapter of a tiny Llama on the CPU, in this process; a loss that is no number stops it."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from trl.trainer import utils as trl_utils

from services.trainer import publishing, supervisor
from services.trainer.train import logprobs, sft
from services.trainer.train.dpo import dpo
from services.trainer.train.model import load_base
from shared.artifacts.folders import hash_folder
from shared.contracts.adapter_check import FILE, AdapterLogprobs
from shared.contracts.errors import FatalError
from shared.contracts.rows import Example
from shared.contracts.steps import Point, StepKind
from tests.fakes.training import EXAMPLES, PAIRS, Ticks, spec_of, train_params

pytestmark = pytest.mark.usefixtures("one_thread")


def fine_tune(base: Path, folder: Path, seed: int = 0) -> tuple[dict[str, Any], Path]:
    spec = spec_of(StepKind.SFT, train_params(seed=seed), EXAMPLES, base, folder)
    return sft.fine_tune(spec, Ticks()), spec.output / "adapter"


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    return fine_tune(base, tmp_path_factory.mktemp("tuned"))


def test_sft_lowers_the_loss_and_equal_seeds_give_equal_bytes(base: Path, tuned, tmp_path: Path):
    figures, adapter = tuned
    assert figures["steps"] == 8
    assert figures["loss"] < figures["loss_first"] - 0.5
    curve = [Point(**point) for point in json.loads((adapter.parent / supervisor.CURVE).read_text())]
    assert [point.step for point in curve] == list(range(1, 9))
    assert fmean(point.loss for point in curve[-2:]) == pytest.approx(figures["loss"], abs=1e-3)
    assert all(point.accuracy is not None and 0 <= point.accuracy <= 1 for point in curve)
    assert hash_folder(fine_tune(base, tmp_path / "again")[1]) == hash_folder(adapter)
    assert hash_folder(fine_tune(base, tmp_path / "other", seed=1)[1]) != hash_folder(adapter)


def test_an_adapter_has_the_canonical_base_no_path_and_what_it_changed(base: Path, tuned):
    adapter = tuned[1]
    assert sorted(p.name for p in adapter.iterdir()) == [publishing.CONFIG, publishing.WEIGHTS, FILE]
    left = AdapterLogprobs.model_validate_json((adapter / FILE).read_bytes())
    assert len(left.rows) == 4
    assert all(fmean(row.adapter) > fmean(row.base) + 0.5 for row in left.rows)
    assert all(
        len(row.scored) == len(row.base) == len(row.adapter) and row.scored[-1] == len(row.ids) - 1 for row in left.rows
    )
    row = left.rows[0]
    assert logprobs.token_logprobs(load_base(base), row.ids, row.scored).tolist() == pytest.approx(row.base, abs=1e-3)
    text = (adapter / publishing.CONFIG).read_text()
    assert json.loads(text)["base_model_name_or_path"] == "tiny"
    assert str(base) not in text
    names = load_file(adapter / publishing.WEIGHTS).keys()
    assert all("lora_" in name and "ref" not in name for name in names)
    reloaded = PeftModel.from_pretrained(load_base(base), str(adapter))
    assert reloaded.peft_config["default"].to_dict()["r"] == 4


def test_scoring_answers_alone_is_trls_loss(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    params = train_params()
    spec = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path)
    trainer, _ = sft.build(spec, params, [Example.model_validate(row) for row in EXAMPLES])
    model = trainer.model
    assert model is not None
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(model, dict(batch))
    scored = []
    monkeypatch.setattr(trl_utils, "_use_triton", lambda device: bool(scored.append(device)))
    theirs = trainer.compute_loss(model, dict(batch))
    assert scored, "TRL no longer asks the function that score_answers_only replaces"
    assert torch.allclose(ours, theirs, rtol=1e-5)
    batch["labels"][:, :-1] = -100  # the loss must depend on the labels that count, and on nothing else
    assert not torch.allclose(trainer.compute_loss(model, dict(batch)), ours, rtol=1e-3)


def test_preference_raises_the_margin_from_the_incoming_student_and_leaves_the_reference(
    base: Path, tuned, tmp_path: Path
):
    incoming = tuned[1]
    spec = spec_of(StepKind.DPO, train_params(learning_rate=5e-3), PAIRS, base, tmp_path, incoming)
    figures = dpo(spec, Ticks())
    assert figures["margin_first"] == 0  # the reference is the incoming adapter, not the base
    assert figures["margin"] > 0.5
    assert figures["reward_accuracy"] > 0.9
    assert figures["mean_tokens_chosen"] > figures["mean_tokens_rejected"] > 1
    adapter = spec.output / "adapter"
    left = [AdapterLogprobs.model_validate_json((folder / FILE).read_bytes()) for folder in (incoming, adapter)]
    assert left[1].rows[0].base[0] == left[0].rows[0].base[0]  # the same first token, and both against the bare base
    before, after = load_file(incoming / publishing.WEIGHTS), load_file(adapter / publishing.WEIGHTS)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_loss_that_is_no_number_stops_the_training(base: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in base.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FatalError) as error:
        sft.fine_tune(spec_of(StepKind.SFT, train_params(), EXAMPLES, broken, tmp_path), Ticks())
    assert error.value.code == "nan_loss"
