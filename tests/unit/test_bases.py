"""The registry of weak models: what the operator names, and what a process makes of it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.artifacts.bases import Base, Bases, parse
from shared.artifacts.folders import hash_folder
from shared.contracts.errors import FatalError
from shared.contracts.steps import Method, ModelRef, TrainParams, content_hash


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_the_default_comes_first_and_is_named_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_STUDENT_MODEL", "small")
    monkeypatch.setenv("METEOR_STUDENT_PATH", "/models/small")
    monkeypatch.setenv("METEOR_STUDENTS", "large=/models/large, small=/models/small,")
    bases = Bases()
    assert bases.all() == [Base("small", Path("/models/small")), Base("large", Path("/models/large"))]
    assert bases.find("none") is None


@pytest.mark.parametrize("text", ["large", "=x", "large=", "a=1,a=2"])
def test_a_list_that_is_not_one_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"write name=folder|named twice"):
        parse(text)
    monkeypatch.setenv("METEOR_STUDENTS", text)
    with pytest.raises(ValidationError):
        Bases()


def test_a_base_is_known_by_its_content(folder: Path):
    bases = Bases(student_model="small", student_path=folder, students={})
    ref = bases.ref("small")
    assert ref == ModelRef(base="small", base_hash=hash_folder(folder))
    assert bases.folder(ref) == folder
    with pytest.raises(FatalError, match="other files") as changed:
        bases.folder(ref.model_copy(update={"base_hash": "0" * 64}))
    assert changed.value.code == "wrong_student"


def test_without_a_folder_the_name_stands_for_the_content(folder: Path):
    named = Bases(student_model="org/small", student_path=None, students={})
    ref = named.ref("org/small")
    assert ref.base_hash == content_hash("org/small")
    assert Bases(student_model="org/small", student_path=folder, students={}).folder(ref) == folder
    with pytest.raises(FatalError) as unknown:
        named.folder(ref)
    assert unknown.value.code == "no_student"
    with pytest.raises(FatalError) as other:
        named.folder(ref.model_copy(update={"base": "large"}))
    assert other.value.code == "wrong_student"


def test_steps_of_the_first_release_keep_their_hashes():
    """Of a training and of its model; what was added later is left out where it is unset."""
    model = {"base": "tiny", "base_hash": "0" * 64, "adapter": None}
    assert ModelRef.model_validate(model).model_dump(mode="json") == model
    params = {
        "model": model, "adapter": {"rank": 16, "alpha": 32, "targets": "all-linear", "max_length": 512}, "epochs": 1.0,
        "learning_rate": 1e-3, "batch_size": 8, "seed": 0, "beta": 2.0, "sft_weight": 0.5,
    }  # fmt: skip
    assert TrainParams.model_validate(params).model_dump(mode="json") == params


def test_a_student_has_three_names():
    base = ModelRef(base="tiny", base_hash="0" * 64)
    adapter, full = base.trained(Method.LORA, "a" * 64), base.trained(Method.FULL, "f" * 64)
    assert [ref.engine_name for ref in (base, adapter, full)] == ["tiny", "a" * 64, "f" * 64]
    assert [ref.served_by for ref in (base, adapter, full)] == ["tiny", "tiny", "f" * 64]
    assert [ref.method for ref in (base, adapter, full)] == [Method.LORA, Method.LORA, Method.FULL]
    assert full.trained(Method.LORA, "a" * 64) == adapter
    assert ModelRef.model_validate_json(full.model_dump_json()) == full
