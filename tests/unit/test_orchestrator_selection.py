"""Which question goes where: disjoint, seeded, independent of file order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.selection import allocate, batches, distinct_pairs, keep_lessons, rounds_of, shards, shots
from shared.contracts.data import Question
from shared.contracts.jobs import Distillation, DistillSettings, EvolveSettings, IterateSettings, Phase
from shared.contracts.rows import Lesson, Pair


def questions(n: int) -> list[Question]:
    return [Question(id=f"q{i}", question=f"question {i}", reference=f"answer {i}") for i in range(n)]


def spec(distill: int | None, iterate: int | None, evolve: int | None) -> Distillation:
    return Distillation(
        domain="d",
        distill=DistillSettings(questions=distill),
        iterate=IterateSettings(questions=iterate),
        evolve=EvolveSettings(questions=evolve),
    )


def test_named_counts_are_kept_and_the_rest_is_shared():
    assert allocate(100, spec(50, None, 10)) == {Phase.DISTILL: 50, Phase.ITERATE: 40, Phase.EVOLVE: 10}
    assert allocate(100, spec(None, None, None)) == {Phase.DISTILL: 50, Phase.ITERATE: 30, Phase.EVOLVE: 20}


def test_a_phase_that_is_left_out_gets_no_questions():
    only = Distillation(domain="d", phases=[Phase.DISTILL])
    assert allocate(100, only) == {Phase.DISTILL: 100}


@given(st.integers(0, 60), st.integers(0, 5), st.integers(0, 1000))
def test_shards_are_disjoint_and_do_not_depend_on_the_order_of_the_file(n, shuffle, seed):
    rows = questions(n)
    mixed = random.Random(shuffle).sample(rows, n)
    one, other = shards(rows, spec(None, None, None), seed), shards(mixed, spec(None, None, None), seed)
    assert one == other
    ids = [q.id for part in one.values() for q in part]
    assert len(ids) == len(set(ids)) <= n


def test_another_seed_gives_another_choice():
    rows = questions(60)
    assert shards(rows, spec(20, 20, 20), 1) != shards(rows, spec(20, 20, 20), 2)


@given(st.integers(0, 50), st.integers(1, 7))
def test_rounds_cover_all_questions_with_fresh_ones_each(n, rounds):
    parts = rounds_of(list(range(n)), rounds)
    assert [q for part in parts for q in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_batches_keep_the_order():
    assert batches([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]


def test_shots_come_only_from_rows_with_a_reference():
    rows = [*questions(5), Question(id="bare", question="no reference")]
    assert len(shots(rows, 8, 0)) == 5


def test_only_usable_lessons_are_kept_and_the_others_are_counted():
    rows = questions(4)
    outcomes = ["ok", "refused", "empty", "refused"]
    lessons = [
        Lesson(id=q.id, answer="x", finish_reason="stop", outcome=outcome)
        for q, outcome in zip(rows, outcomes, strict=True)
    ]
    kept, dropped = keep_lessons(rows, lessons)
    assert [e.id for e in kept] == ["q0"]
    assert kept[0].question == "question 0"
    assert dropped == {"refused": 2, "empty": 1}


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [("a", " a ", "identical"), ("", "b", "empty"), ("a", "", "empty"), ("a", "b", None)],
)
def test_pairs_that_cannot_teach_are_dropped_and_counted(chosen, rejected, reason):
    kept, dropped = distinct_pairs([Pair(id="1", question="q", chosen=chosen, rejected=rejected)])
    assert (len(kept), dropped) == ((1, {}) if reason is None else (0, {reason: 1}))
