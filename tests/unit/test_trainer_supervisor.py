"""The trainer's worker without its training process: what it plans, publishes and sweeps; and how light it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.trainer import publishing, supervisor
from services.trainer.settings import TrainerSettings
from shared.artifacts.bases import Bases
from shared.artifacts.folders import hash_folder
from shared.artifacts.store import Artifacts
from shared.contracts.errors import DiskLow, FatalError, UserError
from shared.contracts.export_steps import MergeParams
from shared.contracts.rows import Example
from shared.contracts.steps import AdapterConfig, Method, ModelRef, StepKind, TrainParams

ROWS = [Example(id="a", question="q", completion="c")]


def params(base: str = "tiny") -> TrainParams:
    model = ModelRef(base=base, base_hash="0" * 64)
    return TrainParams(model=model, adapter=AdapterConfig(), epochs=1, learning_rate=1e-3, batch_size=2, seed=0)


def adapter(folder: Path, base: str = "tiny") -> Path:
    folder.mkdir(parents=True)
    (folder / publishing.WEIGHTS).write_bytes(b"weights")
    (folder / publishing.CONFIG).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    return folder


def test_artifact_is_canonical_and_the_serving_copy_names_what_the_engine_compares(tmp_path: Path):
    artifacts = Artifacts(tmp_path / "artifacts")
    digests = {
        publishing.publish(adapter(tmp_path / str(n)), artifacts, tmp_path / "serving", "/models/tiny")
        for n in range(2)
    }
    (digest,) = digests
    stored = json.loads((artifacts.folder(digest) / publishing.CONFIG).read_text())
    served = json.loads((tmp_path / "serving" / digest / publishing.CONFIG).read_text())
    assert stored["base_model_name_or_path"] == "tiny"
    assert served["base_model_name_or_path"] == "/models/tiny"
    assert [p.name for p in (tmp_path / "serving").iterdir()] == [digest]
    assert (tmp_path / "serving" / digest / publishing.WEIGHTS).read_bytes() == b"weights"


def test_a_folder_with_a_reference_adapter_is_not_published(tmp_path: Path):
    source = adapter(tmp_path / "new")
    (source / "ref").mkdir()
    with pytest.raises(FatalError, match="not an adapter alone"):
        publishing.publish(source, Artifacts(tmp_path / "artifacts"), tmp_path / "serving", "/models/tiny")
    assert not (tmp_path / "serving").exists()


def test_what_writes_much_needs_room_for_it(tmp_path: Path):
    shapes = {"a": [3, 5], "b": [7], "__metadata__": None}
    tensors = {
        name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} if shape else {}
        for name, shape in shapes.items()
    }
    header = json.dumps(tensors).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    full = params().model_copy(update={"method": Method.FULL})
    assert supervisor.bytes_to_write(full, tmp_path) == 12 * (3 * 5 + 7)
    assert supervisor.bytes_to_write(params(), tmp_path) == 0
    merging = MergeParams(model=params().model, keep=True)
    assert supervisor.bytes_to_write(merging, tmp_path) == 8 * (3 * 5 + 7)
    assert supervisor.bytes_to_write(merging.model_copy(update={"keep": False}), tmp_path) == 0
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(DiskLow, match=r"this work needs \d"):
        Artifacts(tmp_path, floor=free // 2).check_room(tmp_path, needed=free)


def test_plan_refuses_what_cannot_be_trained(tmp_path: Path):
    settings = TrainerSettings()
    with pytest.raises(UserError) as no_rows:
        supervisor.plan(StepKind.SFT, params(), [], tmp_path, None, tmp_path, settings)
    assert no_rows.value.code == "no_rows"
    with pytest.raises(FatalError) as other_adapter:
        supervisor.plan(
            StepKind.SFT, params(), ROWS, tmp_path, adapter(tmp_path / "a", base="large"), tmp_path, settings
        )
    assert other_adapter.value.code == "wrong_student"


def weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text(name)
    return folder


def test_a_whole_model_is_served_as_it_is_stored(tmp_path: Path):
    artifacts, serving = Artifacts(tmp_path / "artifacts"), tmp_path / "serving"
    digests = {publishing.publish_weights(weights(tmp_path / str(n)), artifacts, serving) for n in range(2)}
    (digest,) = digests
    assert hash_folder(serving / digest) == hash_folder(artifacts.folder(digest)) == digest
    assert [p.name for p in serving.iterdir()] == [digest]
    with pytest.raises(FatalError, match="not a model folder"):
        publishing.publish_weights(adapter(tmp_path / "adapter"), artifacts, serving)


def test_the_serving_base_is_what_the_engine_was_given(tmp_path: Path):
    bases = Bases(student_model="tiny", student_path=tmp_path, students={"large": Path("/models/large")})
    assert publishing.serving_base(TrainerSettings(), bases, "tiny") == str(tmp_path)
    elsewhere = TrainerSettings(serving_base="org/tiny")
    assert publishing.serving_base(elsewhere, bases, "tiny") == "org/tiny"
    assert publishing.serving_base(elsewhere, bases, "large") == "/models/large"


def test_only_abandoned_scratch_is_swept(tmp_path: Path):
    for name in ("old", "fresh"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "x").write_text("x")
    for path in (tmp_path / "old" / "checkpoints" / "x", tmp_path / "old" / "checkpoints", tmp_path / "old"):
        os.utime(path, (1, 1))
    supervisor.sweep(tmp_path, older_than_s=3600)
    assert [p.name for p in tmp_path.iterdir()] == ["fresh"]
    supervisor.sweep(tmp_path / "missing", older_than_s=0)


def test_worker_loads_no_model_library_and_stays_small():
    code = (
        "import sys, psutil, services.trainer.main\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'vllm'} & set(sys.modules)),"
        " psutil.Process().memory_info().rss)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[0] == "[]"
    assert int(out[1]) < 200 * 2**20


def test_only_the_process_that_pushes_gets_the_hubs_token(monkeypatch: pytest.MonkeyPatch):
    given = {"HF_TOKEN": "secret", "HF_HUB_OFFLINE": "1", "METEOR_INTERNAL_TOKEN": "t", "DATABASE_URL": "u"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    others, pushing = (supervisor.child_environment(kind) for kind in (StepKind.MERGE, StepKind.PUSH))
    assert ("HF_TOKEN" in others, others["HF_HUB_OFFLINE"]) == (False, "1")
    assert (pushing["HF_TOKEN"], "HF_HUB_OFFLINE" in pushing) == ("secret", False)
    assert not {"METEOR_INTERNAL_TOKEN", "DATABASE_URL"} & (others.keys() | pushing.keys())


@pytest.mark.parametrize("lost", ["weights", "all of the base", None])
def test_a_file_that_is_gone_is_told_by_the_files_and_not_by_a_librarys_words(tmp_path: Path, lost: str | None):
    base, tuned = tmp_path / "base", adapter(tmp_path / "adapter")
    base.mkdir()
    if lost != "all of the base":
        (base / "config.json").write_text("{}")
    spec = supervisor.plan(StepKind.SFT, params(), ROWS, base, tuned, tmp_path / "scratch", TrainerSettings())
    given = supervisor._sizes(spec)
    if lost == "weights":
        (tuned / publishing.WEIGHTS).unlink()
    if lost is None:
        supervisor._check_still_there(given, spec)
        return
    with pytest.raises(FatalError) as caught:
        supervisor._check_still_there(given, spec)
    assert caught.value.code == "artifact_missing"
    assert str(tuned / publishing.WEIGHTS if lost == "weights" else base) in caught.value.message
