"""What users ask for and what travels: the answer format, job requests, steps, errors."""

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.answer_format import MARKER, join_answer, read_answer, split_answer, student_messages
from shared.contracts.distillation import Distillation, DistillSettings, Hyperparameters, checked_name
from shared.contracts.errors import Conflict, FatalError, TransientError, UserError, as_body
from shared.contracts.grader_kinds import NumberGrader
from shared.contracts.jobs import JobRequest
from shared.contracts.rows import StudentCompletion
from shared.contracts.step_kinds import STEP_KINDS, step_request
from shared.contracts.steps import (
    Queue,
    Sampling,
    StepKind,
    StepRequest,
    StudentParams,
    TeachParams,
    content_hash,
)

# the answer format


@given(st.text(), st.text())
def test_an_answer_comes_back_from_its_completion(rationale: str, answer: str):
    if MARKER in f"\n{rationale.strip()}" or MARKER in f"{MARKER} {answer.strip()}"[1:]:
        return
    parts = split_answer(join_answer(rationale, answer))
    assert parts == (rationale.strip() or None, answer.strip())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("just this", (None, "just this")),
        ("because\nAnswer: 4", ("because", "4")),
        ("Answer: 4", (None, "4")),
        ("a\nAnswer: 1\nb\nAnswer: 2", ("a\nAnswer: 1\nb", "2")),
        ("The Answer: is not a marker", (None, "The Answer: is not a marker")),
        ("", (None, "")),
    ],
)
def test_the_last_marker_on_a_line_of_its_own_counts(text: str, parts: tuple):
    assert split_answer(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("because\nAnswer: 4", ("because", "4", True)),
        ("because\n**Answer:** 4", ("because", "4", True)),
        ("because\n**Answer**: 4", ("because", "4", True)),
        ("because\n**Answer: 4**", ("because", "4", True)),
        ("because\nFinal answer: 4", ("because", "4", True)),
        ("because\nANSWER - 4", ("because", "4", True)),
        ("because\n### Answer\n4", ("because", "4", True)),
        ("It is so. Answer: 4", ("It is so.", "4", True)),
        ("because\nTherefore, the answer is: 4", ("because", "4", True)),
        ("weil\nAntwort: 4", ("weil", "4", True)),
        ("因为\n答案：4", ("因为", "4", True)),
        ("a\nAnswer: 1\nb\nFinal answer: 2", ("a\nAnswer: 1\nb", "2", True)),
        ("because\nAnswer: 4\nAnswer:", ("because", "4\nAnswer:", True)),
        ("Answer: 4", (None, "4", True)),
        ("Answering is hard: 4", (None, "Answering is hard: 4", False)),
        ("The answer is 4", (None, "The answer is 4", False)),
        ("because\nAnswer:", (None, "because\nAnswer:", False)),
    ],
)
def test_who_was_asked_for_the_format_may_write_the_marker_in_other_ways(text: str, parts: tuple):
    assert read_answer(text) == parts


def test_an_attempt_keeps_its_rationale_behind_a_marker_in_other_words():
    attempt = StudentCompletion(id="a", answer="so\n**Answer:** 4", finish_reason="stop", marker_missing=True)
    assert attempt.marked() == attempt.model_copy(update={"rationale": "so", "answer": "4", "marker_missing": False})
    for other in (attempt.model_copy(update={"marker_missing": False}), attempt.model_copy(update={"answer": "4"})):
        assert other.marked() is other


def test_a_job_whose_teacher_writes_rationales_gives_the_student_room_for_them():
    def spec(**distill: Any) -> Distillation:
        return Distillation.model_validate({"domain": "d", "answer_tokens": 100, "distill": distill})

    assert not spec().reasons
    assert spec().student_tokens == 100
    assert spec(rationale="on", rationale_tokens=50).student_tokens == 150
    numbers = spec().model_copy(update={"primary_metric": NumberGrader(type="number")})
    assert numbers.reasons, "auto"
    off = DistillSettings(rationale="off")
    assert not numbers.model_copy(update={"distill": off}).reasons
    with pytest.raises(ValidationError, match="the teacher writes rationales in phase distill"):
        spec(rationale="on", answers="references")
    params = TeachParams(teacher="t", domain="d", sampling=Sampling())
    assert "rationale" not in params.model_dump(), "steps without one keep their hashes"


def test_the_student_sees_the_bare_question():
    assert [turn["role"] for turn in student_messages("q")] == ["system", "user"]
    assert student_messages("q")[1]["content"] == "q"


# job requests


def request(**changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "training_file": "file-1", "distillation": {"domain": "shell"}} | changes


def test_a_short_request_gets_the_defaults():
    job = JobRequest.model_validate(request())
    assert [phase.value for phase in job.distillation.phases] == ["distill", "iterate", "evolve"]
    assert job.distillation.iterate.tries == 3
    assert job.distillation.evolve.beam_width == 10
    assert JobRequest.model_validate(job.model_dump(mode="json")) == job


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"distillation": {}}, "domain"),
        ({"distillation": {"domain": "d", "phases": []}}, "distillation"),
        ({"distillation": {"domain": "d", "phases": ["evolve", "distill"]}}, "distillation"),
        ({"distillation": {"domain": "d", "phases": ["distill", "distill"]}}, "distillation"),
        ({"distillation": {"domain": "d", "teacher": {"api_key": "sk-1"}}}, "api_key"),
        ({"distillation": {"domain": "d", "teacher": {"provider": "../x"}}}, "provider"),
        ({"suffix": "a/b"}, "suffix"),
        ({"suffix": "a\n"}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"unknown": 1}, "unknown"),
        ({"hyperparameters": {"n_epochs": -1}}, "n_epochs"),
        ({"hyperparameters": {"n_epochs": float("nan")}}, "n_epochs"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v\0"}}, "metadata"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
    ],
)
def test_a_bad_request_names_its_field(changes: dict, field: str):
    with pytest.raises(ValidationError) as caught:
        JobRequest.model_validate(request(**changes))
    assert field in [str(part) for part in caught.value.errors()[0]["loc"]]


def test_openais_auto_is_understood():
    assert Hyperparameters.model_validate({"n_epochs": "auto"}).n_epochs == "auto"
    assert Hyperparameters.model_validate({"n_epochs": 2}).n_epochs == 2


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "a/b", "-a", "a\n", "a b", "ä", "a" * 65])
def test_names_cannot_be_paths(name: str):
    with pytest.raises(ValueError, match="1-64"):
        checked_name(name)


# steps


def test_a_steps_identity_ignores_spelling_only():
    assert content_hash({"a": 1, "b": "ü"}) == content_hash({"b": "ü", "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_requests_carry_their_kinds_version_and_nothing_unknown():
    params = StudentParams.model_validate(
        {"model": {"base": "b", "base_hash": "0"}, "domain": "d", "sampling": Sampling().model_dump()}
    )
    sent = step_request(StepKind.ANSWER, params, [{"id": "a"}])
    assert sent.version == STEP_KINDS[StepKind.ANSWER].version
    with pytest.raises(ValidationError):
        StepRequest.model_validate(sent.model_dump() | {"extra": 1})


def test_every_kind_has_a_queue_and_every_queue_a_kind():
    assert {kind.queue for kind in StepKind} == set(Queue)


# errors


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UserError("x", param="a.b"), "invalid_request_error", "invalid_request"),
        (Conflict("x"), "conflict_error", "conflict"),
        (TransientError("x"), "server_error", "temporarily_unavailable"),
        (FatalError("x", code="own"), "server_error", "own"),
        (OSError(errno.ENOSPC, "No space left on device"), "server_error", "disk_full"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "server_error", "disk_full"),
        (KeyError("x"), "server_error", "internal_error"),
    ],
)
def test_every_error_has_openais_shape(error: Exception, kind: str, code: str):
    body = as_body(error)
    assert (body.type, body.code) == (kind, code)
    assert body.message
