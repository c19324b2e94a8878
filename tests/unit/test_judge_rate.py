"""Absolute scores: the prompt, its version, and what counts as a score."""

import json

import pytest

from shared.contracts.rows import JudgeInput
from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import StepKind, content_hash
from shared.judging.prompts import CRITERIA, rate_messages
from shared.judging.replies import Rating, parse

ROW = JudgeInput(id="q", question="List all files.", answer="ls -a", reference="ls -a")
PROMPTS_BY_VERSION = {1: "26732b261bf633ba"}
SCORES = dict(zip(CRITERIA, (1, 2, 3, 4, 5, 10), strict=True))


def test_a_changed_prompt_raises_the_version():
    """When this fails: raise the version of StepKind.RATE and enter the new fingerprint under the new number."""
    asked = [rate_messages("shell", ROW), rate_messages("shell", ROW.model_copy(update={"reference": None}))]
    assert PROMPTS_BY_VERSION[STEP_KINDS[StepKind.RATE].version] == content_hash(asked)[:16]


def test_one_reply_holds_all_criteria():
    said = parse(Rating, json.dumps(SCORES))
    assert said is not None
    assert said.model_dump() == SCORES
    assert list(Rating.model_fields) == list(CRITERIA)
    schema = Rating.format()["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(schema["properties"])
    assert schema["properties"]["overall"]["enum"] == list(range(1, 11))


@pytest.mark.parametrize("score", [0, 11, "high", True, None, [5, 6]])
def test_anything_else_is_no_score(score):
    assert parse(Rating, json.dumps(SCORES | {"overall": score})) is None


def test_the_prompt_shows_the_answer_and_is_short():
    system, user = (message["content"] for message in rate_messages("shell", ROW))
    assert "1 is useless, 10 cannot be bettered" in system
    assert all(f'"{name}": 1 to 10' in system for name in CRITERIA)
    assert len(system.split()) < 160
    assert "<answer>\nls -a\n</answer>" in user
    assert "<reference>" in user
