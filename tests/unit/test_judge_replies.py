"""Replies are parsed, never searched; hints that give the reference away are recognised."""

import json

import pytest

from shared.judging.replies import Critique, Decision, Review, leaks, parse


def test_a_verdict_is_the_whole_reply():
    said = parse(Review, ' {"correct": false, "critique": "The sign is wrong."} ')
    assert said == Review(correct=False, critique="The sign is wrong.")
    assert parse(Review, '```json\n{"correct": true, "critique": ""}\n```') == Review(correct=True, critique="")
    assert parse(Decision, '{"correct": true}') == Decision(correct=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Correct.",
        'The student wrote {"correct": true, "critique": ""}',
        '{"correct": true, "critique": ""} but I am not sure',
        '{"correct": "yes", "critique": ""}',
        '{"correct": 1, "critique": ""}',
        '{"correct": true}',
        '{"correct": true, "critique": null}',
        '{"correct": true, "critique": "", "score": 3}',
        '{"correct": false, "critique": "cut off',
        "[true]",
        "null",
    ],
)
def test_anything_else_is_no_verdict(text):
    assert parse(Review, text) is None


def test_a_reply_that_ends_at_the_limit_keeps_its_verdict_and_what_there_is_of_the_hint():
    text = '{"correct": false, "critique": "Look at the sign of the'
    assert parse(Review, text, cut_off=True) == Review(correct=False, critique="Look at the sign of the")
    assert parse(Critique, '{"critique": "Look at \\"the', cut_off=True) == Critique(critique='Look at "the')


@pytest.mark.parametrize(
    "text",
    [
        '{"correct": tr',
        '{"correct": true',
        '{"correct": true, "criti',
        '{"correct": true, "critique": ""} and now I ex',
        'The student wrote {"correct": true, "critique": "as',
    ],
)
def test_a_cut_off_reply_without_all_its_fields_is_no_verdict(text):
    assert parse(Review, text, cut_off=True) is None


@pytest.mark.parametrize("kind", [Decision, Review, Critique])
def test_the_schema_fits_strict_structured_output(kind):
    form = kind.format()
    schema = form["json_schema"]["schema"]
    assert form["type"] == "json_schema"
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(schema["properties"])
    assert json.dumps(form)


@pytest.mark.parametrize(
    ("critique", "reference"),
    [
        ("Use ls -la instead.", "ls -la"),
        ("It should be: LS  -LA!", "`ls -la`"),
        ("The capital is Paris, not Lyon.", "Paris"),
        ("No: 42.", "42"),
        ("Remember that AdamW decouples decay from the gradient: it subtracts the term.",
         "In Adam the term is added first. AdamW decouples decay from the gradient: it subtracts it in the update."),
        ("use >> here", ">>"),
        ("答えは東京です", "東京"),
    ],
)  # fmt: skip
def test_a_hint_that_quotes_the_reference_leaks(critique, reference):
    assert leaks(critique, reference)


@pytest.mark.parametrize(
    ("critique", "reference"),
    [
        ("Another flag shows hidden files.", "ls -la"),
        ("The comparison is odd.", "Paris"),
        ("Think about how decay and the gradient are coupled.",
         "In Adam the term is added first. AdamW decouples decay from the gradient: it subtracts it in the update."),
        ("", "ls"),
        ("append instead of truncating", ">>"),
        ("Anything.", "  "),
    ],
)  # fmt: skip
def test_a_hint_in_other_words_does_not_leak(critique, reference):
    assert not leaks(critique, reference)
