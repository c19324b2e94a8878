"""OpenAI's graders of texts, over templates of items and samples."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.distillation import Distillation
from shared.contracts.grader_kinds import UNGRADABLE, name_of
from shared.contracts.templates import MissingField, filled
from shared.grading.attempt import Graded
from shared.grading.graders import Graders
from shared.grading.texts import bleu, fuzzy_match, gleu, rouge_n

ITEM = {"reference_answer": "Paris", "answers": [{"text": "Paris"}, {"text": "paris"}], "points": 3, "nothing": None}


def spec(grader: Any) -> Distillation:
    return Distillation.model_validate({"domain": "d", "primary_metric": grader})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{item.reference_answer}}", "Paris"),
        ("{{ item.answers[1].text }} or {{item.answers.0.text}}", "paris or Paris"),
        ("{{item.points}}: {{sample.output_json.city}}", "3: Rome"),
        ("{{item.answers}}", '[{"text": "Paris"}, {"text": "paris"}]'),
        ("no place", "no place"),
    ],
)
def test_places_are_filled(template: str, text: str):
    assert filled(template, ITEM, {"output_json": {"city": "Rome"}}) == text


@pytest.mark.parametrize(
    "path", ["item.absent", "item.answers[2].text", "item.points.x", "item.nothing", "sample.output_json"]
)
def test_what_is_not_there_is_told(path: str):
    with pytest.raises(MissingField, match=path.partition("[")[0].partition(".")[0]):
        filled(f"{{{{{path}}}}}", ITEM, {})


@pytest.mark.parametrize(
    ("operation", "answer", "score"),
    [
        ("eq", "Paris", 1), ("eq", "paris", 0), ("ne", "Rome", 1), ("ne", "Paris", 0), ("like", "It is Paris.", 1),
        ("like", "It is paris.", 0), ("ilike", "It is paris.", 1), ("ilike", "", 0),
    ],
)  # fmt: skip
def test_string_check(operation: str, answer: str, score: float):
    given = {"type": "string_check", "name": "city", "operation": operation, "reference": "{{item.reference_answer}}"}
    made = spec(given)
    name = name_of(made.primary_metric)
    with Graders(made.verifying) as graders:
        assert graders.all_scores(answer, "", "Where?", ITEM) == {name: Graded(score)}
        assert graders.score(name, answer, "", "Where?", {}).why == UNGRADABLE


def test_similarities_are_the_published_ones():
    assert fuzzy_match("abcd", "abcd") == bleu("a b c d", "a b c d") == gleu("a b", "a b") == rouge_n(1, "a", "a") == 1
    assert rouge_n(2, "the cat sat", "the cat ran") == 0.5  # one of two pairs of words on both sides
    assert gleu("the cat", "the cat sat on it") == pytest.approx(3 / 14)  # 3 n-grams in common; 3 here, 14 there
    assert 0 < bleu("the cat sat here", "the cat sat on it") < 1
    assert bleu("", "a") == gleu("", "a") == rouge_n(5, "a", "a") == fuzzy_match("", "a") == 0


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_5", "rouge_l"])
def test_text_similarity_reads_any_field(metric: str):
    given = {"type": "text_similarity", "evaluation_metric": metric, "reference": "{{item.text}}"}
    made = spec(given)
    text = "one two three four five six"
    with Graders(made.verifying) as graders:
        (right,) = graders.all_scores(text, "", "", {"text": text}).values()
        (wrong,) = graders.all_scores("9", "", "", {"text": text}).values()
    assert (round(right.score, 6), wrong.score < 0.2) == (1, True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"type": "string_check", "reference": "{{itme.x}}"}, "a template has"),
        ({"type": "string_check", "input": "{{sample.text}}"}, "a sample has choices, output_json"),
        ({"type": "string_check", "operation": "is"}, "'eq', 'ne', 'like' or 'ilike'"),
        ({"type": "text_similarity", "evaluation_metric": "cosine"}, "needs a model"),
        ({"type": "string_check", "strict": True}, "is not known"),
    ],
)
def test_malformed_ones_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        spec(given)


def test_a_formula_reads_items():
    equal = {"type": "string_check", "operation": "eq", "name": "e", "reference": "{{item.reference_answer}}"}
    like = {
        "type": "text_similarity",
        "evaluation_metric": "fuzzy_match",
        "name": "f",
        "reference": "{{item.reference_answer}}",
    }
    multi = {"type": "multi", "name": "m", "graders": {"e": equal, "f": like}, "calculate_output": "(e + f) / 2"}
    with Graders(spec(multi).verifying) as graders:
        assert graders.score("multi", "Paris", "", "", ITEM).score == 1
        assert graders.score("multi", "Pari", "", "", ITEM).score == pytest.approx(0.5 * 8 / 9)
