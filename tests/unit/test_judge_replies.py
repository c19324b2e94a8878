"""What judges write is read as they mean it; hints that give the reference away are recognised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.judging.prompts import CRITERIA
from shared.judging.replies import Choice, Critique, Decision, Rating, Review, leaks, parse, read

HINT = "The sign is wrong."


def test_a_sound_reply_needs_no_mending():
    verdict = Review(correct=False, critique=HINT)
    text = ' {"correct": false, "critique": "The sign is wrong."} '
    assert read(Review, text) == read(Review, f"```json\n{text}\n```") == (verdict, False)
    assert read(Decision, '{"correct": true}') == (Decision(correct=True), False)


@pytest.mark.parametrize(
    "text",
    [
        f'The student confused it. {{"correct": false, "critique": "{HINT}"}} I hope this helps.',
        f'Sure!\n```json\n{{"correct": false, "critique": "{HINT}"}}\n```\nIs there more?',
        f'<think>Is {{"correct": true}}? No.</think>{{"correct": false, "critique": "{HINT}"}}',
        f'Is {{"correct": true, "critique": ""}}? No.</think>\n{{"correct": false, "critique": "{HINT}"}}',
        f'The student wrote {{"correct": true, "critique": ""}}. My verdict: {{"correct": false, "critique": "{HINT}"}}',
        f"{{'correct': False, 'critique': '{HINT}'}}",
        f'{{"correct": false, "critique": "{HINT}",}}',
        f'{{correct: false, critique: "{HINT}"}}',
        f"{{“correct”: false, “critique”: “{HINT}”}}",
        f'{{"correct": false, // as I said\n"critique": "{HINT}"}}',
        f'{{"correct": false, "critique": "{HINT}"',
        f'{{"correct": false, "critique": "{HINT}}}',
        f'"correct": false, "critique": "{HINT}"}}',
        f"correct: no\ncritique: {HINT}",
        f'{{"correct": "no", "critique": "{HINT}"}}',
        f'{{"correct": "Incorrect", "critique": "{HINT}"}}',
        f'{{"correct": 0, "critique": "{HINT}"}}',
        f'{{"correct": [false], "critique": ["{HINT}"]}}',
        f'[{{"correct": false, "critique": "{HINT}"}}]',
        f'{{"review": {{"correct": false, "critique": "{HINT}"}}}}',
        f'{{"Correct": false, "Critique": "{HINT}", "score": 3, "notes": {{"a": 1}}}}',
        json.dumps(f'{{"correct": false, "critique": "{HINT}"}}'),
    ],
)
def test_the_usual_slips_are_read_as_they_are_meant(text: str):
    assert read(Review, text) == (Review(correct=False, critique=HINT), True)


@pytest.mark.parametrize(
    "text",
    ['{"correct": true}', '{"correct": true, "critique": null}', '{"correct": "Yes.", "critique": []}', "Yes.", "pass",
     "**Correct:** True", '{"verdict": "correct"}', '{"is_correct": true}', "<correct>true</correct>", "Final verdict: correct.",
     '{"correct": "yes, it means the same", "critique": ""} ', "<think>so</think> Correct", "true", "[true]"],
)  # fmt: skip
def test_a_critique_that_is_missing_is_empty(text: str):
    assert parse(Review, text) == Review(correct=True, critique="")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would rather not say.",
        "<think>The sign is wrong, so",
        '{"correct": "partly", "critique": ""}',
        '{"correct": null, "critique": "x"}',
        '{"correct": 2, "critique": "x"}',
        '{"critique": "x"}',
        '{"verdict": {"note": "the student wrote {\'correct\': true}"}}',
        "null",
        "{}",
        "[" * 5000,
        '{"a":' * 5000,
    ],
)
def test_anything_else_is_no_verdict(text: str):
    assert parse(Review, text) is None


def test_a_reply_that_ends_at_the_limit_keeps_its_verdict_and_what_there_is_of_the_hint():
    text = '{"correct": false, "critique": "Look at the sign of the'
    assert parse(Review, text, cut_off=True) == Review(correct=False, critique="Look at the sign of the")
    assert parse(Review, f"Here:\n{text}", cut_off=True) == Review(correct=False, critique="Look at the sign of the")
    assert parse(Critique, '{"critique": "Look at \\"the', cut_off=True) == Critique(critique='Look at "the')
    assert parse(Review, '{"correct": true, "criti', cut_off=True) == Review(correct=True, critique="")


@pytest.mark.parametrize("text", ['{"correct": tr', '{"corr', '{"correct": true, "critique": ""} and now I ex', "Yes"])
def test_a_cut_off_reply_without_its_verdict_is_none(text: str):
    assert parse(Review, text, cut_off=True) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a", "A"), ("Answer B", "B"), ("answer_a", "A"), ("TIE", "tie"), ("equal", "tie"), ("neither", "tie"), (["B"], "B")],
)  # fmt: skip
def test_a_side_is_read_as_it_is_meant(given: object, expected: str):
    choice = parse(Choice, json.dumps(dict.fromkeys(CRITERIA, "A") | {"overall": given, "why": "x"}))
    assert choice is not None
    assert (choice.overall, choice.accuracy) == (expected, "A")
    assert parse(Choice, json.dumps(dict.fromkeys(CRITERIA, "A") | {"overall": "C"})) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [("8", 8), ("8/10", 8), ("8 / 10.", 8), ("9 out of 10", 9), (7.0, 7), ("7.6", 8), ([3], 3), ("10 points", 10)],
)
def test_a_score_is_read_as_it_is_meant(given: object, expected: int):
    rating = parse(Rating, json.dumps(dict.fromkeys(CRITERIA, 5) | {"overall": given}))
    assert rating is not None
    assert rating.overall == expected


@pytest.mark.parametrize("given", [0, 11, "4/5", "80%", "good", True, None, {}])
def test_what_is_no_score_is_none(given: object):
    assert parse(Rating, json.dumps(dict.fromkeys(CRITERIA, 5) | {"overall": given})) is None


@given(st.text(max_size=200), st.booleans())
def test_no_reply_raises(text: str, cut_off: bool):
    for kind in (Decision, Review, Critique, Choice, Rating):
        read(kind, text, cut_off)
        read(kind, f'{{"correct": {text}, "overall": {text}}}', cut_off)


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
