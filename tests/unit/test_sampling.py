"""Phase 2's and phase 3's samples: what pass rates say, what is kept, and which pairs are made."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from services.orchestrator.method.pairs import agreed_sides, crossed, held_out, pairs_of_samples, verified_sides
from services.orchestrator.method.samples import Drawn, each_once, figures_of, pass_at
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Distillation
from shared.contracts.rows import TOO_LONG, Example, StudentCompletion
from tests.fakes.students import students

QUESTION = Question(id="q", question="How many?", reference="1", split=Split.TRAIN)


def completion(answer: str, finish_reason: str = "stop", rationale: str | None = None) -> StudentCompletion:
    return StudentCompletion(id="q", answer=answer, rationale=rationale, finish_reason=finish_reason)


def drawn(
    answers: Sequence[str], right: str = "1", by: str = "grader", cut: str = "", question: Question = QUESTION
) -> Drawn:
    """cut: the answers that were cut off. Answers that begin with ? say nothing to the grader."""
    completions = [completion(answer, "length" if answer in cut.split() else "stop") for answer in answers]
    read = [
        answer if c.whole and not answer.startswith("?") else None
        for answer, c in zip(answers, completions, strict=True)
    ]
    votes = sorted({one for one in read if one is not None}, key=lambda one: (-read.count(one), one))
    groups = [None if one is None else votes.index(one) for one in read]
    passed = [c.whole and c.answer == right for c in completions]
    return Drawn(question, completions, passed, groups, by)


@pytest.mark.parametrize(("n", "c", "k"), [(8, 0, 4), (8, 8, 1), (8, 3, 1), (8, 3, 4), (5, 1, 5), (6, 2, 2)])
def test_pass_at_k_is_the_share_of_all_choices_of_k_samples_with_one_that_passes(n: int, c: int, k: int):
    from itertools import combinations

    choices = [any(choice) for choice in combinations([True] * c + [False] * (n - c), k)]
    assert pass_at(n, c, k) == pytest.approx(sum(choices) / len(choices))


def test_pass_at_k_of_many_draws_is_unbiased():
    """With a true rate p the mean estimate is 1 - (1 - p)^k."""
    dice, p, k = random.Random(0), 0.3, 4
    estimates = [pass_at(8, sum(dice.random() < p for _ in range(8)), k) for _ in range(20_000)]
    assert sum(estimates) / len(estimates) == pytest.approx(1 - (1 - p) ** k, abs=0.005)


def test_figures_count_what_was_verified_agreed_cut_off_and_too_long():
    long = Drawn(QUESTION, [completion("", TOO_LONG)], [False], [None], "nobody")
    given = [
        drawn(["1", "1", "2", "3"]),
        drawn(["2", "2", "2", "3"]),
        drawn(["1", "1", "1", "2"], by="agreement", cut="2"),
        long,
    ]
    figures = figures_of(given, kept=5)
    assert (figures.questions, figures.verified, figures.samples, figures.too_long) == (3, 2, 4, 1)
    assert figures.pass_at == {"1": 0.25, "2": pytest.approx(pass_at(4, 2, 2) / 2, abs=1e-4), "4": 0.5}
    assert figures.gate == pytest.approx(0.25)
    assert figures.agreed == pytest.approx((0.5 + 0.75 + 0.75) / 3, abs=1e-4)
    assert figures.distinct == pytest.approx((3 + 2 + 1) / 3, abs=0.01)
    assert (figures.cut_off, figures.kept) == (1, 5)
    assert "pass@1 25%, pass@2" in figures.words
    assert figures_of([]).gate is None
    assert figures_of([long]).agreed is None


@pytest.mark.parametrize(
    ("answers", "kept"),
    [("1 2 2 2 2 2 2 2", 1), ("1 1 1 1 1 1 1 1", 1), ("1 1 1 1 1 1 1 2", 1), ("2 2 2 2 2 2 2 2", 0)],
)
def test_equal_texts_are_kept_once(answers: str, kept: int):
    assert len(drawn(answers.split()).kept(4)) == kept


def test_distinct_passing_texts_are_kept_up_to_a_number_and_easy_questions_keep_one():
    def told(passing: int, of: int) -> Drawn:
        texts = [completion("1", rationale=f"way {n}") for n in range(passing)]
        wrong = [completion("2", rationale=f"way {n}") for n in range(of - passing)]
        flags = [True] * passing + [False] * (of - passing)
        return Drawn(QUESTION, [*texts, *wrong], flags, [0 if ok else 1 for ok in flags], "grader")

    assert [len(told(n, 10).kept(3)) for n in (0, 1, 2, 5, 8, 9, 10)] == [0, 1, 2, 3, 3, 1, 1]
    assert len(told(1, 20).kept(3)) == 1
    assert told(2, 4).kept(3) == ["way 0\nAnswer: 1", "way 1\nAnswer: 1"]


def test_what_was_cut_off_or_is_empty_is_neither_kept_nor_a_side():
    one = drawn(["1", "1x", "3", ""], right="1x", cut="1x 3")
    assert one.kept(4) == []
    assert verified_sides(drawn(["1", "3"], cut="3")) == "cut_off"
    assert verified_sides(drawn(["1", "3"], cut="1 3", by="nobody")) == "cut_off"
    assert agreed_sides(drawn(["1", "3"], cut="3", by="nobody"), 0.4) == "all_agree"


def test_verified_sides():
    assert verified_sides(drawn(["1", "2", "1", "3"])) == (["1"], ["2", "3"], 1.0)
    assert verified_sides(drawn(["1", "1"])) == "all_pass"
    assert verified_sides(drawn(["2", "2"])) == "none_passes"
    assert verified_sides(drawn(["1", "2"], by="agreement")) == "no_reference"


def unsolved(answers: Sequence[str], passes: bool = True, **more: Any) -> Drawn:
    return replace(drawn(answers, **more), reference_passes=passes)


def test_the_reference_stands_for_what_passes_where_nothing_does_if_the_job_says_so():
    assert verified_sides(unsolved(["2", "3", "2"]), or_reference=True) == (["1"], ["2", "3"], 1.0)
    assert verified_sides(unsolved(["2", "3"], cut="3"), or_reference=True) == (["1"], ["2"], 1.0)
    assert verified_sides(unsolved(["2", "3"])) == "none_passes"
    assert verified_sides(unsolved(["1", "3"]), or_reference=True) == (["1"], ["3"], 1.0)
    assert verified_sides(unsolved(["1", "1"]), or_reference=True) == "all_pass"
    assert verified_sides(unsolved(["2", "3"], cut="2 3"), or_reference=True) == "cut_off"
    assert verified_sides(unsolved(["2"], by="agreement"), or_reference=True) == "no_reference"


def test_a_reference_that_its_own_grader_fails_is_no_side():
    assert verified_sides(unsolved(["2", "3"], passes=False), or_reference=True) == "reference_fails"


def test_a_reference_stands_against_answers_without_a_rationale_only():
    reasoned = completion("2", rationale="because")
    one = Drawn(QUESTION, [reasoned, completion("3")], [False, False], [0, 1], "grader", reference_passes=True)
    assert verified_sides(one, or_reference=True) == (["1"], ["3"], 1.0)
    assert verified_sides(replace(one, completions=[reasoned, reasoned]), or_reference=True) == "with_rationale"


@pytest.mark.parametrize("evolve", [{}, {"strategy": "agreement"}, {"strategy": "verified", "pairs": "file"}])
def test_unsolved_needs_samples_that_a_grader_verifies(evolve: dict[str, str]):
    with pytest.raises(ValueError, match=r"evolve\.unsolved: reference needs evolve\.strategy verified"):
        Distillation.model_validate(
            {"domain": "d", "judge": {"grader": "string_check"}, "evolve": evolve | {"unsolved": "reference"}}
        )


def test_agreed_sides_weigh_as_much_as_the_votes_differ():
    assert agreed_sides(drawn(["1", "1", "1", "2", "2", "3", "4", "1"], by="nobody"), 0.4) == (["1"], ["3", "4"], 0.375)
    assert agreed_sides(drawn(["1", "1", "1", "2", "?x", "?y", "1", "1"], by="nobody"), 0.5) == (
        ["1"],
        ["?x", "?y"],
        0.625,
    )
    assert agreed_sides(drawn(["1", "1", "2", "2"], by="nobody"), 0.5) == "no_agreement"
    assert agreed_sides(drawn(["?x", "?y"], by="nobody"), 0.5) == "no_agreement"


@pytest.mark.parametrize(("a", "b"), product(range(1, 6), range(1, 6)))
def test_crossed_pairs_differ_and_use_all_texts(a: int, b: int):
    better, worse = [f"r{n}" for n in range(a)], [f"w{n}" for n in range(b)]
    pairs = crossed(better, worse, 100)
    assert len(set(pairs)) == len(pairs) == a * b
    first = crossed(better, worse, max(a, b))
    assert {one for one, _ in first} == set(better)
    assert {other for _, other in first} == set(worse)


def test_held_out_questions_do_not_depend_on_their_order_and_few_are_none():
    ids = [f"q{n}" for n in range(60)]
    assert held_out(ids, 0.1, 0) == held_out(ids[::-1], 0.1, 0)
    assert len(held_out(ids, 0.1, 0)) == 6
    assert held_out(ids, 0.1, 0) != held_out(ids, 0.1, 1)
    assert held_out(ids[:30], 0.1, 0) == held_out(ids, 0, 0) == set()


def test_all_pairs_of_a_held_out_question_are_held_out():
    spec = Distillation.model_validate(
        {
            "domain": "d",
            "judge": {"grader": "string_check"},
            "evolve": {"strategy": "verified", "pairs_per_question": 2},
        }
    )
    given = [drawn(["1", "2", "3"], question=QUESTION.model_copy(update={"id": f"q{n}"})) for n in range(50)]
    pairs, dropped = pairs_of_samples(students(spec), spec.evolve, [*given, drawn(["1", "1"])])
    assert dropped == {"all_pass": 1}
    assert len(pairs) == 100
    aside = [pair.id for pair in pairs if pair.held_out]
    assert len(aside) == 2 * len(set(aside)) == 10
    assert "weight" not in pairs[0].model_dump(mode="json"), "the hashes of older steps"


def test_a_row_stands_in_the_training_once():
    rows = [Example(id="a", question="q", completion="x"), Example(id="a", question="q", completion="x")]
    assert each_once([*rows, Example(id="b", question="q", completion="x")]) == [
        rows[0],
        Example(id="b", question="q", completion="x"),
    ]
