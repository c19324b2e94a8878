"""A step's key is a type, and its text stays what finished steps of older jobs are stored under."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.step_key import StepKey

KEYS = {
    "pilot/guided/guidelines/0": StepKey("pilot", role="guided/guidelines", batch=0),
    "pilot/unguided/answers/1": StepKey("pilot", role="unguided/answers", batch=1),
    "pilot/guided/gate": StepKey("pilot", role="guided/gate"),
    "pilot/compared/a": StepKey("pilot", role="compared/a"),
    "pilot/nll": StepKey("pilot", role="nll"),
    "distill/answers/3": StepKey("distill", role="answers", batch=3),
    "distill/unguided/answers/3": StepKey("distill", role="unguided/answers", batch=3),
    "distill/compared/2/preferences": StepKey("distill", role="compared/2/preferences"),
    "distill/compared/2/a": StepKey("distill", role="compared/2/a"),
    "distill/train": StepKey("distill", role="train"),
    "iterate/1/try-2/answers/0": StepKey("iterate", 1, "try-2/answers", 0),
    "iterate/2/corrections/grades/10": StepKey("iterate", 2, "corrections/grades", 10),
    "iterate/1/train": StepKey("iterate", 1, "train"),
    "evolve/3/search": StepKey("evolve", 3, "search"),
    "evaluate/dev/base/answers/0": StepKey("evaluate", role="dev/base/answers", batch=0),
    "evaluate/test/few_shot-1/grades/3": StepKey("evaluate", role="test/few_shot-1/grades", batch=3),
    "evaluate/general/final/answers/0": StepKey("evaluate", role="general/final/answers", batch=0),
    "evaluate/judged/0": StepKey("evaluate", role="judged", batch=0),
    "evaluate/rated/base/0": StepKey("evaluate", role="rated/base", batch=0),
    "evaluate/labels/0": StepKey("evaluate", role="labels", batch=0),
    "evaluate/sft_references/train": StepKey("evaluate", role="sft_references/train"),
    "compare/merge": StepKey("compare", role="merge"),
    "package/gguf": StepKey("package", role="gguf"),
    "push": StepKey("push"),
    "read": StepKey("read"),
    "ask/7": StepKey("ask", batch=7),
}


@pytest.mark.parametrize("text", KEYS)
def test_every_key_is_parsed_and_written_as_it_was(text: str):
    assert StepKey.parse(text) == KEYS[text]
    assert str(KEYS[text]) == text


@given(st.text(alphabet="ab01/-", max_size=12))
def test_any_text_comes_back(text: str):
    assert str(StepKey.parse(text)) == text or "//" in text or text.startswith("/") or text.endswith("/")


def test_a_round_needs_a_role():
    with pytest.raises(ValueError, match="needs a role"):
        StepKey("iterate", 1)


def test_what_keys_tell():
    assert StepKey.parse("evaluate/dev/iterate-1/preferences/0").split == "dev"
    assert StepKey.parse("evaluate/general/base/answers/0").split is None
    assert StepKey.parse("evaluate/dev/iterate-1/preferences/0").action == "preferences"
    assert StepKey.parse("evaluate/sft_references/train").is_baseline
    assert not StepKey.parse("iterate/1/train").is_baseline
