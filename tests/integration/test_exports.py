"""Exports end to end: the real API functions, orchestrator and training process on a tiny model; only the engine is pretended."""

import asyncio
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.api.features.exports import service as exports
from services.orchestrator.jobs import parity
from services.trainer import publishing, supervisor
from services.trainer.settings import trainer_settings
from services.trainer.spec import Done, Spec
from services.trainer.train import merge
from services.trainer.train.progress import Reporter
from shared.contracts.errors import NotFound, UserError
from shared.contracts.export_steps import MergeParams
from shared.contracts.exports import ExportWish
from shared.contracts.rows import ParitySample, StudentCompletion
from shared.contracts.steps import Method, ModelRef, StepKind
from shared.jobs.retention import collect
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.exporting import Exporting, published
from tests.fakes.push_hub import running_push_hub
from tests.fakes.simulated import BASE
from tests.fakes.system import System
from tests.fakes.tiny_adapter import make_tiny_adapter
from tests.fakes.tiny_model import make_tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

WISH = ExportWish.model_validate({"formats": ["adapter", "merged"]})


@pytest.fixture
def merging_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge in this process: starting one with the model libraries takes longer than all the rest, and is tested once."""
    in_a_child = supervisor.run

    async def run(spec: Spec, *rest: Any) -> Done:
        if spec.kind is not StepKind.MERGE:
            return await in_a_child(spec, *rest)
        return Done(metrics=await asyncio.to_thread(merge.merge, spec, Reporter(io.StringIO())))

    monkeypatch.setattr(supervisor, "run", run)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_llama(tmp_path_factory.mktemp("base"), seed=1)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the trainer publishes one: two files, the canonical base."""
    folder = make_tiny_adapter(base, tmp_path_factory.mktemp("adapter"))
    config = json.loads((folder / publishing.CONFIG).read_text()) | {"base_model_name_or_path": BASE.base}
    (folder / publishing.CONFIG).write_text(json.dumps(config))
    return folder


@pytest.fixture
def system(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    monkeypatch.setenv("METEOR_STUDENT_PATH", str(base))
    monkeypatch.setenv("METEOR_TRAINER_THREADS", "1")
    trainer_settings.cache_clear()
    world = Exporting()
    world.system = made = System(tmp_path, monkeypatch, world)
    yield made
    trainer_settings.cache_clear()


async def exported(system: System, name: str = "expert", wish: ExportWish = WISH, status: str = "succeeded") -> Any:
    made = exports.create(system.context, name, wish)
    async with system.running():
        await system.until(made.id, status)
    return exports.lifecycle.get(system.context, made.id)


def unpacked(system: System, export: Any, name: str, folder: Path) -> Path:
    download, parts = exports.content(system.context, export.id, name)
    content = b"".join(parts.read())
    assert (len(content), hashlib.sha256(content).hexdigest()) == (download.bytes, download.sha256)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.iterdir())


async def test_stock_libraries_load_what_was_exported_and_it_is_the_model(
    system: System, base: Path, adapter: Path, tmp_path: Path
):
    model_id = published(system, adapter, base, "undecided")
    export = await exported(system, model_id)
    assert [file.name for file in export.result] == ["README.md", "manifest.json", "adapter.tar", "merged.tar"]
    assert export.parity["prompts"] == 8
    assert export.parity["merged"]["greedy_agreement"] == 1
    assert 0 < export.parity["merged"]["logit_difference_max"] < 0.01, "added up in another order, so not quite equal"
    assert export.parity["served"]["greedy_agreement"] == 1

    whole = unpacked(system, export, "merged.tar", tmp_path / "whole")
    laid = unpacked(system, export, "adapter.tar", tmp_path / "laid")
    assert (whole.name, laid.name) == ("expert-1-merged", "expert-1-adapter")
    tokenizer: Any = AutoTokenizer.from_pretrained(whole)
    messages = [{"role": "user", "content": "List the files"}]
    ids = tokenizer.apply_chat_template(messages, return_tensors="pt", add_generation_prompt=True, return_dict=False)
    merged = AutoModelForCausalLM.from_pretrained(whole)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(laid))
    bare = AutoModelForCausalLM.from_pretrained(base)
    with torch.inference_mode():
        said, same, other = (model(ids).logits for model in (adapted, merged, bare))
    assert torch.allclose(said, same, atol=1e-3)
    assert not torch.allclose(said, other, atol=1e-1)

    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["formats"].keys() == {"adapter", "merged"}
    for name, listed in manifest["formats"]["merged"].items():
        assert hashlib.sha256((whole / name).read_bytes()).hexdigest() == listed["sha256"], name
    card = (whole / "README.md").read_text()
    for part in (
        "license: apache-2.0",
        "as the base's own model card says",
        "**undecided**",
        "| final | 20 | 0.500 [0.250, 0.750] | +0.250 [-0.125, +0.500] |",
        "no gain is shown",
        "train 40, dev 20, test 20",
        "few questions",
        "100% of the answers are the same",
    ):
        assert part in card, part

    # another export of the same merges nothing anew, and a collection leaves all of it
    system.ran.clear()
    again = await exported(system, "expert@1")
    assert [file.sha256 for file in again.result] == [file.sha256 for file in export.result]
    assert not system.ran[again.id]
    for path in system.artifacts.all():
        os.utime(path, (0, 0))
    collect(system.stores.retention, system.artifacts, system.settings)
    exports.content(system.context, export.id, "merged.tar")


@pytest.mark.usefixtures("merging_here")
async def test_a_model_that_is_not_the_one_ends_the_export_with_the_figures(system: System, base: Path, adapter: Path):
    published(system, adapter, base)
    world: Any = system.world
    world.lies = True
    wish = ExportWish.model_validate({"formats": ["adapter"]})
    failed = await exported(system, "expert", wish, "failed")
    assert failed.error.code == "parity_failed"
    assert "served model and adapter agree on 0%" in failed.error.message
    assert failed.result is None
    with pytest.raises(NotFound) as error:
        exports.content(system.context, failed.id, "adapter.tar")
    assert error.value.code == "export_not_ready"


def test_a_merge_that_went_wrong_shows_in_the_logits(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def save_another(model: Any, source: Path, folder: Path, *rest: Any) -> None:
        save_weights(model, source, folder, *rest)
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.0.mlp.down_proj.weight"] *= 1.5
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    save_weights = merge.save_weights
    rows = [{"id": "a", "question": "List the files"}, {"id": "long", "question": "x " * 600}]
    params = MergeParams(model=ModelRef(base="t", base_hash="h", adapter="a"), keep=True, max_new_tokens=8)
    samples = []
    for number, save in enumerate((save_weights, save_another)):
        monkeypatch.setattr(merge, "save_weights", save)
        folder = tmp_path / str(number)
        spec = Spec(
            kind=StepKind.MERGE,
            params=params.model_dump(mode="json"),
            rows=rows,
            base=base,
            adapter=adapter,
            output=folder / "output",
            checkpoints=folder,
        )
        merge.merge(spec, Reporter(io.StringIO()))
        samples.append([ParitySample(**row) for row in json.loads((folder / "output" / "rows.json").read_text())])
    right, wrong = samples
    assert [one.id for one in right] == ["a"], "what does not fit is left out"
    attempt = StudentCompletion(id="a", answer=right[0].adapter.strip(), finish_reason="length")
    parity.check(parity.compare(right, [attempt]))
    with pytest.raises(parity.ParityFailed, match="the merged model differs"):
        parity.check(parity.compare(wrong, [attempt]))


@pytest.mark.parametrize(
    ("name", "wish", "code", "words"),
    [
        ("simulated", {"formats": ["merged"]}, "not_exportable", "base"),
        ("nobody", {"formats": ["merged"]}, "model_not_found", "nobody"),
        ("whole", {"formats": ["adapter"]}, "adapter_not_available", "ask for merged"),
        ("expert", {"formats": ["gguf"]}, "gguf_unavailable", "METEOR_GGUF_CONVERTER"),
        ("expert", {"formats": ["adapter"], "push": {"repo": "me/mine"}}, "no_hub_token", "HF_TOKEN"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_would_mend_it(
    system: System, base: Path, adapter: Path, name: str, wish: dict, code: str, words: str
):
    published(system, adapter, base)
    ref = ModelRef(base=BASE.base, base_hash="h").trained(Method.FULL, "f" * 64)
    job = system.stores.jobs.page(DEFAULT_PROJECT, None, 1)[0][0].id
    whole = system.stores.catalog.publish(DEFAULT_PROJECT, "whole", ref, job, "promoted")
    system.stores.catalog.serve(DEFAULT_PROJECT, whole)
    with pytest.raises(UserError) as error:
        exports.create(system.context, name, ExportWish.model_validate(wish))
    assert error.value.code == code
    assert words in error.value.message


CONVERTER = """
import pathlib, sys
folder, _, target, *_ = sys.argv[1:]
assert (pathlib.Path(folder) / "model.safetensors").exists()
pathlib.Path(target).write_bytes(b"GGUF" + pathlib.Path(folder, "config.json").read_bytes())
"""


@pytest.mark.usefixtures("merging_here")
async def test_gguf_by_the_named_converter_and_a_push_with_a_token_that_nothing_keeps(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(CONVERTER)
    token = "hf_secretsecretsecret"
    monkeypatch.setenv("METEOR_STUDENT_PATH", str(base))
    with running_push_hub() as hub:
        changes = {
            "METEOR_GGUF_CONVERTER": str(script),
            "HF_TOKEN": token,
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "1",
        }
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        trainer_settings.cache_clear()
        world = Exporting()
        world.system = system = System(tmp_path / "data", monkeypatch, world)
        published(system, adapter, base)
        wish = ExportWish.model_validate({"formats": ["adapter", "gguf"], "push": {"repo": "me/mine"}})
        export = await exported(system, "expert", wish)
        assert export.pushed == f"{hub.url}/me/mine"
        assert hub.private == {"me/mine": True}
        assert token in hub.tokens
        pushed = hub.files["me/mine"]
        assert pushed["gguf/model.gguf"] == b"GGUF" + (base / "config.json").read_bytes()
        assert pushed["adapter/adapter_model.safetensors"] == (adapter / publishing.WEIGHTS).read_bytes()
        assert set(pushed) == {
            "README.md",
            "manifest.json",
            "gguf/model.gguf",
            "adapter/adapter_model.safetensors",
            "adapter/adapter_config.json",
        }
        hub.refuses = 403
        refused = await exported(system, "expert", wish, "failed")
        assert refused.error.code == "hub_refused"
        assert "403" in refused.error.message
    written = [
        path for path in (tmp_path / "data").rglob("*") if path.is_file() and token.encode() in path.read_bytes()
    ]
    assert not written
    trainer_settings.cache_clear()
