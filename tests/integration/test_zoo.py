"""Every family of the zoo: prepared as `meteor models pull` does, then really trained, searched and loaded in small."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from transformers import AutoConfig

from services.local.models.extract_text import extract
from services.local.models.folder import ModelRefused, check_folder, text_part
from services.trainer.train import probe as probing
from services.trainer.train.model import load_base, lora_config, trainable
from shared.contracts.adapter_check import EngineTrial
from shared.contracts.capabilities import Ability, Capabilities
from shared.contracts.distillation import Distillation
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import Method, StepKind
from shared.plan.student_checks import problems
from tests.fakes.tiny_model import write_tokenizer
from tests.fakes.training import EXAMPLES, spec_of, train_params
from tests.fakes.zoo import FAMILIES, make

pytestmark = pytest.mark.usefixtures("one_thread")
WRAPPERS = [name for name, family in FAMILIES.items() if family.vision]
YES, NO = Ability(ok=True), Ability(ok=False, reason="it fails", remedy="take another")
ABLE = dict.fromkeys(("load", "train_lora", "train_full", "dpo", "search", "serve"), YES)
MOE = ["qwen3-moe", "mixtral", "gpt-oss"]


def prepared(name: str, folder: Path) -> Path:
    """The folder that trainer and engine get."""
    made = make(name, folder / "made")
    if text_part(check_folder(made)) is None:
        return made
    extract(made, folder / "text")
    return folder / "text"


def tried(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Capabilities:
    monkeypatch.setattr(probing, "_served", lambda architecture: Ability(ok=None))  # importing vLLM takes half a minute
    return probing.probe(name, prepared(name, folder))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_can_do_what_the_table_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    result, family = tried(name, tmp_path, monkeypatch), FAMILIES[name]
    can = {ability for ability in ("train_lora", "train_full", "dpo", "search") if getattr(result, ability).ok}
    assert can == family.can - {"serve"}, result
    assert (result.load.ok, result.tried) == (True, "real")
    if family.extracted:
        assert result.architecture == family.extracted


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3-moe", "falcon-h1", "qwen3.5"])
def test_a_large_model_is_tried_in_small(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "TINY", 1000)
    result = tried(name, tmp_path, monkeypatch)
    assert result.tried == "shrunken", result.warnings
    assert result.train_lora.ok, result.train_lora


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_language_model_of_a_wrapper_answers_as_before(name: str, tmp_path: Path):
    from transformers import AutoModelForImageTextToText

    folder, ids = prepared(name, tmp_path), torch.tensor([[5, 6, 7, 8, 9, 10] * 4])
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "made", dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(whole(input_ids=ids).logits, load_base(folder).eval()(input_ids=ids).logits)
    names = safe_open(folder / "model-00001.safetensors", "pt").keys()
    assert not [name for name in names if "vision" in name or "visual" in name]


def test_a_wrapper_that_lacks_tensors_is_refused(tmp_path: Path):
    made = make("gemma3", tmp_path / "made")
    config = json.loads((made / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    config["text_config"]["layer_types"] = ["sliding_attention"] * 3
    (made / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRefused, match="tensors of the language model are not in the checkpoint"):
        extract(made, tmp_path / "text")


@pytest.mark.parametrize("name", MOE)
def test_an_adapter_of_experts_sits_on_the_attention_and_no_router_is_trained(name: str, tmp_path: Path):
    folder = make(name, tmp_path / name)
    adapted = trainable(spec_of(StepKind.SFT, train_params(), EXAMPLES, folder, tmp_path), train_params())
    trained = [name for name, weights in adapted.named_parameters() if weights.requires_grad]
    assert trained
    assert all("attn" in name and "lora" in name for name in trained)
    config = adapted.peft_config["default"]
    assert isinstance(config, LoraConfig)
    assert config.r == 4
    whole = train_params().model_copy(update={"method": Method.FULL})
    model = trainable(spec_of(StepKind.SFT, whole, EXAMPLES, folder, tmp_path), whole)
    frozen = [name for name, weights in model.named_parameters() if not weights.requires_grad]
    assert frozen
    assert all("gate" in name or "router" in name for name in frozen)


def test_a_dense_model_is_trained_on_all_its_linear_layers_as_before(tmp_path: Path):
    model = load_base(make("llama", tmp_path / "llama"))
    assert lora_config(train_params(), model).target_modules == "all-linear"


@pytest.mark.parametrize(("name", "attention"), [("llama", "sdpa"), ("gemma2", "eager"), ("gpt-oss", "eager")])
def test_attention_is_chosen_by_the_model(name: str, attention: str, tmp_path: Path):
    assert load_base(make(name, tmp_path / name)).config._attn_implementation == attention


def test_missing_weights_and_templates_are_found_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = make("llama", tmp_path / "llama")
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 3
    config.save_pretrained(folder)
    monkeypatch.setattr(probing, "_served", lambda architecture: Ability(ok=None))
    result = probing.probe("llama", folder)
    assert result.load.ok is False
    assert "missing" in result.load.reason
    bare = make("llama", tmp_path / "bare")
    write_tokenizer(bare, None)
    result = probing.probe("bare", bare)
    assert result.load.ok is False
    assert "no chat template" in result.load.reason
    assert result.refusal == result.load


@pytest.mark.parametrize(
    ("how", "code", "unfit", "warned"),
    [
        ("real", "", "", 0),
        ("real", "adapter_ignored", "train_lora", 0),
        ("shrunken", "adapter_ignored", "train_lora", 0),
        ("real", "engine_not_finite", "serve", 0),
        ("shrunken", "engine_not_started", "", 1),
    ],
)
def test_what_an_engine_does_with_the_toys_adapter_is_part_of_the_probe(how: Any, code: str, unfit: str, warned: int):
    before = Capabilities.model_validate(
        {"base": "tiny", "identity": "0", "model_type": "x", "architecture": "X", "tried": how} | ABLE
    )
    after = probing.with_trial(before, EngineTrial(ok=not code, code=code, reason="its log says so"))
    refused = {name for name in ABLE if not getattr(after, name).ok}
    assert refused == ({unfit} if unfit else set())
    assert len(after.warnings) == warned
    assert not code or "its log says so" in f"{after.warnings}{after}"


DENSE = {"linear": ("q_proj", "v_proj"), "targets": ("q_proj", "v_proj")}


def unfit(adapter: dict | None = None, **changes: object) -> list[str]:
    """Params of the problems of a job with all three phases."""
    capabilities = Capabilities.model_validate(
        {"base": "tiny", "identity": "0", "model_type": "llama", "architecture": "X"} | ABLE | DENSE | changes
    )
    spec = Distillation.model_validate({"domain": "d", "adapter": adapter or {}})
    request = JobRequest(model="tiny", training_file="file-1", distillation=spec)
    return [str(problem.param) for problem in problems(capabilities, request, 16)]


@pytest.mark.parametrize(
    ("changes", "params"),
    [
        ({}, []),
        ({"load": NO}, ["model"]),
        ({"serve": NO, "dpo": NO}, ["model", "distillation.phases"]),
        ({"train_lora": NO}, ["distillation.adapter.method"]),
        ({"train_lora": NO, "adapter": {"method": "full"}}, []),
        ({"train_full": NO, "adapter": {"method": "full"}}, ["distillation.adapter.method"]),
        ({"search": NO}, ["distillation.evolve.pairs"]),
        ({"adapter": {"targets": "q_proj, gate_up_proj"}}, ["distillation.adapter.targets"]),
        ({"adapter": {"targets": "q_proj,v_proj"}}, []),
        ({"rank_factor": 2}, ["distillation.adapter.rank"]),
        ({"rank_factor": 2, "adapter": {"rank": 8}}, []),
        ({"serve": Ability(ok=None, reason="vLLM is not installed here")}, []),
    ],
)
def test_a_job_that_needs_more_than_its_student_can_is_refused_with_all_reasons(changes: dict, params: list[str]):
    assert unfit(**changes) == params
