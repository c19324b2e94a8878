"""The judge's own figures: what counts as agreement, as chance, as a taste for length."""

import random

import pytest

from shared.contracts.rows import ComparisonInput, Preference
from shared.evaluation.judge_quality import LABELS_LEAST, agreement, chance, kappa, quality

COUNTS = {"preferred_a": 10, "preferred_b": 10}


def preference(winner: str, **more) -> Preference:
    return Preference(id="q", winners={"overall": winner}, **more)


def pair(first: str, second: str) -> ComparisonInput:
    return ComparisonInput(id="q", question="?", first=first, second=second)


def test_chance_is_what_needs_no_look_at_the_answers():
    assert chance(["first"] * 8 + ["second"] * 2) == 0.5, "in both orders no judge knows which side is called first"
    assert chance(["tie"] * 6 + ["first"] * 4) == 0.6
    assert chance(["tie", "first", "second"]) == pytest.approx(1 / 3)
    assert chance([]) == pytest.approx(1 / 3)
    for ties in range(31):
        labels = ["tie"] * ties + ["first"] * (15 - ties // 2) + ["second"] * (15 - ties + ties // 2)
        assert chance(labels) >= 1 / 3


def test_kappa_of_a_known_table():
    """Cohen's kappa by hand: observed .7; the judge says first 60 %, people say first 50 %: expected .5; (.7-.5)/.5."""
    said = ["first"] * 40 + ["first"] * 20 + ["second"] * 10 + ["second"] * 30
    labels = ["first"] * 40 + ["second"] * 20 + ["first"] * 10 + ["second"] * 30
    assert kappa(said, labels) == pytest.approx(0.4)
    assert kappa(labels, labels) == 1
    assert kappa(["tie"] * 4, ["first", "second"] * 2) == 0
    assert kappa(["first"] * 4, ["first"] * 4) is None
    assert kappa([], []) is None


def test_agreement_on_all_and_on_the_decided():
    preferences = [preference("first")] * 12 + [preference("second")] * 4 + [preference("tie")] * 4
    figures = agreement(preferences, ["first"] * 16 + ["tie"] * 4)
    assert figures.agreement[0] == 16 / 20
    assert figures.decided[0] == 12 / 16
    assert figures.n_decided == 16
    assert figures.better_than_chance is True


def test_no_verdict_agrees_with_nothing():
    preferences = [preference("tie", parsed=False)] * 30
    figures = agreement(preferences, ["tie"] * 30)
    assert figures.agreement[0] == 0
    assert figures.better_than_chance is False
    assert figures.n_decided == 0


def test_few_labels_tell_nothing():
    few = LABELS_LEAST - 1
    figures = agreement([preference("first")] * few, ["first"] * few)
    assert figures.better_than_chance is None
    figures = agreement([preference("first")] * LABELS_LEAST, ["first"] * LABELS_LEAST)
    assert figures.better_than_chance is True


@pytest.mark.parametrize("kind", ["one of three", "one of two", "always a tie"])
@pytest.mark.parametrize("ties", [0.1, 0.5])
def test_guessing_is_hardly_ever_taken_for_better_than_chance(kind: str, ties: float):
    """1,000 judges that guess, each on 50 labels. The interval is two-sided, so 2.5 % is the aim, 5 % the limit."""
    dice = random.Random(7)
    guesses = {"one of three": ["first", "second", "tie"], "one of two": ["first", "second"], "always a tie": ["tie"]}

    def believed() -> bool:
        labels = dice.choices(["tie", "first", "second"], [ties, (1 - ties) / 2, (1 - ties) / 2], k=50)
        preferences = [preference(dice.choice(guesses[kind])) for _ in labels]
        return agreement(preferences, labels).better_than_chance is True

    assert sum(believed() for _ in range(1000)) <= 50


def test_a_judge_that_is_right_on_four_of_five_is_believed_on_fifty_labels():
    dice = random.Random(7)

    def believed() -> bool:
        labels = dice.choices(["first", "second"], k=50)
        preferences = [preference(x if dice.random() < 0.8 else "tie") for x in labels]
        return agreement(preferences, labels).better_than_chance is True

    assert sum(believed() for _ in range(200)) >= 190


def test_longer_answers_that_are_better_are_no_bias():
    rows = [pair("short", "much longer")] * 30
    preferences = [preference("second")] * 30
    fair = quality(rows, preferences, COUNTS, ["second"] * 30)
    assert fair.preferred_the_longer[0] == 1
    assert fair.length_bias is not None
    assert fair.length_bias.value == 0
    assert fair.warnings == []
    taken = quality(rows, preferences, COUNTS, ["first", "second"] * 15)
    assert taken.length_bias is not None
    assert taken.length_bias.value == 0.5
    assert taken.length_bias.low > 0
    assert [w for w in taken.warnings if "50% more often than the longer one was better" in w]
    assert quality(rows, preferences, COUNTS).length_bias is None


def test_answers_of_one_length_tell_nothing_of_length():
    figures = quality([pair("abc", "xyz")] * 9, [preference("first")] * 9, COUNTS, ["second"] * 9)
    assert figures.preferred_the_longer == (0, 0, 1)
    assert figures.length_bias == (0, -1, 1)


def test_missing_verdicts_are_counted_and_warned_of():
    preferences = [preference("first")] * 18 + [preference("tie", parsed=False)] * 2
    rows = [pair("a", "bb")] * 20
    assert quality(rows, preferences, COUNTS).unparsed == 2
    assert quality(rows, preferences, COUNTS).warnings == []
    worse = [*preferences[1:], preference("tie", parsed=False)]
    assert quality(rows, worse, COUNTS).warnings == ["the judge gave no verdict on 3 of 20 pairs; they count as ties"]
