"""Labels and grader objects: what is taken, and what an error says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.cli.commands.labels import BODY_BYTES, bodies, read_labels
from shared.contracts.data import LineError, checked
from shared.contracts.distillation import Distillation
from shared.contracts.errors import UserError
from shared.contracts.labels import MOST_AT_ONCE, Label

GOOD: dict[str, Any] = {"question": "List all files.", "first": "ls", "second": "ls -a", "preferred": "second"}


def test_a_label_is_its_content():
    assert Label.model_validate(GOOD).digest == Label.model_validate(GOOD).digest
    others = [{"preferred": "tie"}, {"first": "dir"}, {"reference": "ls -a"}]
    assert (
        len({Label.model_validate(GOOD).digest, *(Label.model_validate(GOOD | other).digest for other in others)}) == 4
    )
    assert Label.model_validate(GOOD | {"first": ""}).first == "", "models do give empty answers"


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"preferred": "2"}, "preferred", "'first', 'second' or 'tie'"),
        ({"preferred": None}, "preferred", "'first', 'second' or 'tie'"),
        ({"first": 5}, "first", "valid string"),
        ({"second": "x\0"}, "second", "pattern"),
        ({"question": ""}, "question", "is empty"),
        ({"question": "  "}, None, "question is blank"),
        ({"first": "ls -a"}, None, "the two answers are the same"),
        ({"winner": "first"}, "winner", "not permitted"),
        ({"reference": "a" * 32_001}, "reference", "at most 32000"),
    ],
)
def test_a_bad_row_is_named(changes, param, words):
    error = checked(Label, 7, GOOD | changes)
    assert isinstance(error, LineError)
    assert (error.line, error.code, error.param) == (7, "invalid_row", param)
    assert words in error.message


def test_a_file_with_bad_lines_is_refused_with_their_numbers(tmp_path: Path):
    path = tmp_path / "labels.jsonl"
    good = '{"question": "q", "first": "a", "second": "b", "preferred": "tie"}'
    path.write_text(f'{good}\n\n{{"question": "q"}}\nnot json\n{good}\n')
    with pytest.raises(UserError) as error:
        read_labels(path)
    assert "labels.jsonl has 2 bad lines, nothing was sent" in error.value.message
    assert "line 3: first: Field required" in error.value.message
    assert "line 4: not a JSON object" in error.value.message
    path.write_bytes(b"\xef\xbb\xbf" + good.encode() + b"\r\n\r\n" + good.encode())
    assert len(read_labels(path)) == 2


def test_bodies_keep_the_order_and_the_limits():
    small = [Label.model_validate(GOOD | {"question": f"{n}"}) for n in range(MOST_AT_ONCE + 1)]
    assert [len(part) for part in bodies(small)] == [MOST_AT_ONCE, 1]
    large = [Label.model_validate(GOOD | {"question": "\u00e9" * 32_000}) for _ in range(50)]
    parts = list(bodies(large))
    assert sum(len(part) for part in parts) == 50
    assert all(sum(len(str(row)) for row in part) < BODY_BYTES for part in parts)
    assert len(parts) > 1


# graders as OpenAI names them


def job(**changes: Any) -> Distillation:
    return Distillation.model_validate({"domain": "d"} | changes)


def test_openais_grader_objects_are_taken_where_they_say_the_same():
    similar = {
        "type": "text_similarity", "name": "close enough", "evaluation_metric": "rouge_l",
        "input": "{{sample.output_text}}", "reference": "{{item.reference}}",
    }  # fmt: skip
    equal = {"type": "string_check", "operation": "eq"}
    request = job(primary_metric=similar, judge={"grader": equal}, evaluation={"graders": [equal, "chrf", similar]})
    assert request == job(
        primary_metric="rouge_l",
        judge={"grader": "string_check"},
        evaluation={"graders": ["string_check", "chrf", "rouge_l"]},
    )


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ({}, "type must be string_check, text_similarity"),
        ({"type": ["string_check"]}, "type must be string_check, text_similarity"),
        ({"type": "text_similarity"}, "needs evaluation_metric"),
        ({"type": "text_similarity", "evaluation_metric": "rouge_l", "pass_threshold": 0.8}, "judge.pass_mark"),
        ("rouge_9", "first_token, rouge_l, chrf, flags, contains, number"),
    ],
)
def test_other_graders_are_refused_in_words(grader, words):
    with pytest.raises(ValidationError) as error:
        job(primary_metric=grader)
    (first,) = error.value.errors()
    assert first["loc"] == ("primary_metric",)
    assert words in first["msg"]
