"""What score_model and label_model ask, and how replies are read: right, malformed and hostile ones."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Phase
from shared.contracts.estimate import Price, Range
from shared.contracts.grader_kinds import LabelModelGrader, ScoreModelGrader, VerifyingKind
from shared.contracts.templates import MissingField
from shared.grading.attempt import Attempt
from shared.grading.models import messages_of, read, schema_of
from shared.plan.estimate import Work, estimate, sizes

SCORE: dict[str, Any] = {
    "type": "score_model",
    "name": "kind",
    "model": "default",
    "range": [0, 10],
    "input": [
        {"role": "developer", "content": "Be strict."},
        {"role": "user", "content": "{{item.q}}: {{sample.output_text}}"},
    ],
}
LABEL: dict[str, Any] = {
    "type": "label_model",
    "name": "tone",
    "model": "default",
    "labels": ["polite", "rude", "very rude"],
    "passing_labels": ["polite"],
    "input": [{"role": "user", "type": "message", "content": {"type": "input_text", "text": "{{sample.output_text}}"}}],
}


def spec(given: dict[str, Any]) -> Any:
    return TypeAdapter(VerifyingKind).validate_python(given)


@pytest.mark.parametrize(
    ("reply", "raw"),
    [
        ('{"reasoning": "fine", "result": 7.5}', 7.5),
        ('```json\n{"reasoning": "fine", "result": "8"}\n```', 8),
        ('<think>{"result": 1}</think> {"Result": 9}', 9),
        ('The student wrote {"result": 10}, but: {"reasoning": "no", "result": 2}', 2),
        ("{'reasoning': 'quotes', 'score': 3,}", 3),
        ("7", 7),
        ("**Score: 4**", 4),
        ('{"reasoning": "of 10 points", "result": 11}', None),  # outside of the range
        ('{"reasoning": "x", "result": true}', None),
        ('{"reasoning": "x", "result": null}', None),
        ('{"reasoning": "x", "result": NaN}', None),
        ("I see 3 mistakes in 2 lines.", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_scores_are_read(reply: str, raw: float | None):
    graded = read(spec(SCORE), reply)
    assert (
        (graded.raw, graded.score) == (raw, raw / 10) if graded and raw is not None else graded is None and raw is None
    )


def test_a_reply_that_was_cut_off_has_no_score_in_its_prose():
    assert read(spec(SCORE), "Score: 4", cut_off=True) is None


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"reasoning": "kind", "label": "polite"}', 1),
        ('{"label": "Rude."}', 0),
        ("very rude", 0),
        ("**Polite**", 1),
        ("polite or rude", None),
        ('{"label": "neutral"}', None),
        ("", None),
    ],
)
def test_labels_are_read(reply: str, score: float | None):
    graded = read(spec(LABEL), reply)
    assert (graded.score if graded else None) == score


def test_what_is_asked():
    sent = messages_of(spec(SCORE), Attempt("{{item.secret}}", {"q": "How?", "secret": "x"}))
    assert [message["role"] for message in sent] == ["system", "user"]
    assert sent[1]["content"].startswith(
        "How?: {{item.secret}}\n\nReply with one JSON object"
    )  # an answer is no template
    assert "from 0 to 10" in sent[1]["content"]
    assert schema_of(spec(LABEL))["properties"]["label"]["enum"] == LABEL["labels"]
    with pytest.raises(MissingField, match=r"item\.q"):
        messages_of(spec(SCORE), Attempt("x", {}))
    last = SCORE | {
        "input": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "{{sample.output_text}}"}]
    }
    assert [message["role"] for message in messages_of(spec(last), Attempt("x", {}))] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (SCORE | {"range": [1, 1]}, "the lower one first"),
        (SCORE | {"range": [1]}, "at least 2 items"),
        (SCORE | {"input": []}, "at least 1 item"),
        (SCORE | {"input": [{"role": "user", "content": "{{answer}}"}]}, "a template has"),
        (
            SCORE | {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "graders read texts",
        ),
        (SCORE | {"sampling_params": {"max_tokens": 5}}, "Extra inputs"),
        (LABEL | {"passing_labels": ["kind"]}, "'kind' is none of the labels"),
        (LABEL | {"labels": ["polite", "polite"]}, "stands there twice"),
    ],
)
def test_malformed_ones_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        spec(given)


def test_a_job_takes_them_wherever_it_takes_graders():
    multi = {"type": "multi", "name": "m", "graders": {"a": SCORE, "b": LABEL}, "calculate_output": "a / 10 * b"}
    made = Distillation.model_validate(
        {"domain": "d", "primary_metric": multi, "judge": {"grader": LABEL}, "evaluation": {"graders": [SCORE]}}
    )
    assert isinstance(made.judge.grader, LabelModelGrader)
    assert isinstance(made.evaluation.graders[0], ScoreModelGrader)
    assert Distillation.model_validate_json(made.model_dump_json(by_alias=True)) == made


def test_their_calls_are_in_the_estimate():
    texts = sizes(Question(id=str(n), question="How much is it?", reference="12") for n in range(40))
    work = Work({Phase.DISTILL: texts}, {Phase.DISTILL: 40}, texts, texts)
    plain = {"domain": "d", "phases": ["distill"], "evaluation": {"baselines": [], "forgetting": 0}}
    prices = {"default": Price(1, 2), "grader": Price(10, 20)}
    without = estimate(Distillation.model_validate(plain), work, prices).total
    asked = Distillation.model_validate(plain | {"primary_metric": LABEL | {"model": "grader"}})
    given = estimate(asked, work, prices)
    pilot = 16  # both ways are compared by the metric; equal answers are asked about once
    assert given.total.calls.low - without.calls.low == 80 + pilot  # each question of dev and test at least once
    assert given.total.calls.high - without.calls.high == 2 * (40 * (3 + 2) + 2 * pilot)  # 2 or 3 students; asked again
    assert given.total.usd is not None
    assert without.usd is not None
    assert given.total.usd.high > without.usd.high
    assert given.prices["grader"] == prices["grader"]
    assert estimate(asked, work, {"default": Price(1, 2)}).total.usd is None


@pytest.mark.parametrize(
    ("guidance", "ways", "references", "low", "high"),
    [("none", 1, 40, 4, 4), ("auto", 2, 40, 4, 4), ("auto", 2, 0, 0, 0), ("auto", 2, 2, 0, 2), ("none", 1, 38, 2, 4)],
)
def test_the_teachers_first_answers_are_graded_by_the_judges_grader(
    guidance: str, ways: int, references: int, low: int, high: int
):
    texts = sizes(Question(id=str(n), question="How?", reference="12" if n < references else None) for n in range(40))
    work = Work({Phase.DISTILL: texts}, {Phase.DISTILL: 40}, texts, texts)
    plain = {
        "domain": "d",
        "phases": ["distill"],
        "guidance": guidance,
        "evaluation": {"baselines": [], "forgetting": 0},
    }

    def calls(**judge: Any) -> Range:
        return estimate(Distillation.model_validate(plain | {"judge": judge}), work, {}).phases["pilot"].calls

    without, graded = calls(), calls(grader=LABEL | {"model": "grader"})
    assert (graded.low - without.low, graded.high - without.high) == (low, 2 * ways * high)


def test_the_teachers_samples_are_graded_where_those_that_pass_are_learned():
    texts = sizes(Question(id=str(n), question="How?", reference="12" if n < 38 else None) for n in range(40))
    work = Work({Phase.DISTILL: texts}, {Phase.DISTILL: 40}, texts, texts)
    spec = {
        "domain": "d",
        "phases": ["distill"],
        "guidance": "none",
        "judge": {"grader": LABEL | {"model": "grader"}},
        "evaluation": {"baselines": [], "forgetting": 0},
    }

    def calls(phase: str, **teacher: Any) -> Range:
        made = Distillation.model_validate(spec | {"teacher": {"samples": 3} | teacher})
        return estimate(made, work, {}).phases[phase].calls

    assert calls("pilot", keep="passing") == calls("pilot")  # it grades the first 4 answers in any case
    phase = calls("distill", keep="passing"), calls("distill")
    assert phase[0].low - phase[1].low == 40 - 4 - 2  # the pilot's 4 are graded already; 2 have no reference
    assert phase[0].high - phase[1].high == 2 * 38 * 3


def test_the_students_samples_of_phase_3_are_graded_by_the_judges_grader():
    texts = sizes(Question(id=str(n), question="How?", reference="12") for n in range(40))
    work = Work({Phase.EVOLVE: texts}, {Phase.EVOLVE: 40}, texts, texts)
    evolve: dict[str, Any] = {"strategy": "verified", "samples": 4, "turns": 2}
    spec = {"domain": "d", "phases": ["evolve"], "evolve": evolve, "judge": {"grader": LABEL}}
    assert estimate(Distillation.model_validate(spec), work, {}).phases["evolve"].calls.high == 2 * 40 * 4 * 2
    with_references = spec | {"evolve": evolve | {"unsolved": "reference"}}
    assert (
        estimate(Distillation.model_validate(with_references), work, {}).phases["evolve"].calls.high == 2 * 40 * 5 * 2
    )
