"""Which question goes where: disjoint, seeded, independent of file order."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.method.baselines import random_shots
from services.orchestrator.method.pairs import learnable_pairs
from services.orchestrator.method.questions import survey
from services.orchestrator.method.selection import _runs, near_duplicates, seeded_order, shards, stratified
from services.orchestrator.runtime.run import batches
from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Distillation, DistillSettings, EvolveSettings, IterateSettings, Phase
from shared.contracts.rows import PreferencePair, TeacherResponse
from shared.plan.allocation import allocate, rounds_of
from tests.fakes.store_moves import job_rows
from tests.fakes.students import students


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


def test_every_phase_gets_a_question_where_there_are_enough():
    assert allocate(4, spec(None, None, None)) == {Phase.DISTILL: 2, Phase.ITERATE: 1, Phase.EVOLVE: 1}
    assert allocate(3, spec(None, None, None)) == {Phase.DISTILL: 1, Phase.ITERATE: 1, Phase.EVOLVE: 1}
    assert allocate(2, spec(None, None, None)) == {Phase.DISTILL: 1, Phase.ITERATE: 1, Phase.EVOLVE: 0}
    assert allocate(5, spec(3, None, None)) == {Phase.DISTILL: 3, Phase.ITERATE: 1, Phase.EVOLVE: 1}
    assert allocate(5, spec(5, None, None)) == {Phase.DISTILL: 5, Phase.ITERATE: 0, Phase.EVOLVE: 0}


def test_a_phase_that_is_left_out_gets_no_questions():
    only = Distillation(domain="d", phases=[Phase.DISTILL])
    assert allocate(100, only) == {Phase.DISTILL: 100}


@given(st.integers(0, 60), st.integers(0, 5), st.integers(0, 1000))
def test_shards_are_disjoint_and_do_not_depend_on_the_order_of_the_file(n, shuffle, seed):
    rows = questions(n)
    mixed = random.Random(shuffle).sample(rows, n)
    one, other = (shards(seeded_order(each, seed), spec(None, None, None)) for each in (rows, mixed))
    assert one == other
    ids = [q.id for part in one.values() for q in part]
    assert len(ids) == len(set(ids)) <= n


def test_another_seed_gives_another_choice():
    rows = questions(60)
    assert seeded_order(rows, 1) != seeded_order(rows, 2)


def test_rows_on_the_disk_have_the_same_order(tmp_path: Path):
    rows = [q.model_copy(update={"split": Split.DEV if n % 3 else Split.TRAIN}) for n, q in enumerate(questions(40))]
    bare = {row.id for row in rows[::4]}
    rows = [row.model_copy(update={"reference": None}) if row.id in bare else row for row in rows]
    seen = survey(job_rows(Artifacts(tmp_path), rows), 7)
    dev = seeded_order([row for row in rows if row.split is Split.DEV], 7)
    assert [*seen.splits[Split.DEV]] == dev
    assert [*seen.splits[Split.DEV].capped(20)] == sorted(dev, key=lambda row: not row.reference)[:20]
    assert [*seen.splits[Split.DEV].referenced_first()] == sorted(dev, key=lambda row: not row.reference)
    assert seen.splits[Split.DEV].without_reference == sum(row.reference is None for row in dev)
    assert (seen.splits[Split.DEV][3], len(seen.splits[Split.TEST])) == (dev[3], 0)


@given(st.integers(0, 50), st.integers(1, 7))
def test_rounds_cover_all_questions_with_fresh_ones_each(n, rounds):
    parts = rounds_of(list(range(n)), rounds)
    assert [q for part in parts for q in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 50), st.integers(1, 7), st.data())
def test_the_first_rounds_of_a_fork_stay_as_they_were(n, rounds, data):
    before = rounds_of(list(range(n)), rounds)
    kept = data.draw(st.integers(1, rounds))
    more, sizes = data.draw(st.integers(0, 30)), [len(part) for part in before[:kept]]
    after = rounds_of(list(range(n + more)), kept + data.draw(st.integers(0, 3)), sizes)
    assert after[:kept] == before[:kept]
    rest = [len(part) for part in after[kept:]]
    assert not rest or sum(rest) == n + more - sum(sizes)
    assert not rest or max(rest) - min(rest) <= 1


def test_batches_keep_the_order():
    assert batches([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]


def test_shots_come_only_from_rows_with_a_reference():
    rows = [*questions(5), Question(id="bare", question="no reference")]
    assert len(random_shots(rows, 8, 0)) == 5


def test_only_usable_lessons_are_kept_and_the_others_are_counted():
    rows = questions(4)
    outcomes = ["ok", "refused", "empty", "refused"]
    lessons = [
        TeacherResponse(id=q.id, answer=f"x {q.id}", finish_reason="stop", outcome=outcome)
        for q, outcome in zip(rows, outcomes, strict=True)
    ]
    kept, dropped = students().examples(rows, lessons)
    assert [e.id for e in kept] == ["q0"]
    assert kept[0].question == "question 0"
    assert dropped == {"refused": 2, "empty": 1}


def ok(question: Question, answer: str) -> TeacherResponse:
    return TeacherResponse(id=question.id, answer=answer, finish_reason="stop", outcome="ok")


def test_of_near_duplicates_the_first_is_kept():
    text = "How do I list every file in this folder, the hidden ones too, one on each line, newest first, with sizes"
    rows = [
        Question(id=str(n), question=q) for n, q in enumerate([text + "?", text.upper() + " ?", "How do I list files?"])
    ]
    kept, dropped = students().examples(rows, [ok(q, "ls -lat") for q in rows])
    assert [e.id for e in kept] == ["0", "2"]
    assert dropped == {"near_duplicate": 1}


@given(st.lists(st.text("abcd ", max_size=24), max_size=30), st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_looking_up_the_rarest_runs_finds_what_comparing_all_pairs_finds(texts: list[str], alike: float):
    repeated: set[int] = set()
    runs = [_runs(text) for text in texts]
    for i, own in enumerate(runs):
        kept = [runs[j] for j in range(i) if j not in repeated]
        if any(len(own & other) >= alike * len(own | other) for other in kept):
            repeated.add(i)
    assert near_duplicates(texts, alike) == repeated


def test_the_pilot_takes_the_categories_in_turn():
    rows = [
        Question(id=f"{category}{n}", question="q", category=category)
        for category, count in {"a": 5, "b": 1, "c": 2}.items()
        for n in range(count)
    ]
    assert [q.id for q in stratified(rows, 6)] == ["a0", "b0", "c0", "a1", "c1", "a2"]
    assert len(stratified(rows, 100)) == 8


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [("a", " a ", "identical"), ("", "b", "empty"), ("a", "", "empty"), ("a", "b", None)],
)
def test_pairs_that_cannot_teach_are_dropped_and_counted(chosen, rejected, reason):
    kept, dropped = learnable_pairs([PreferencePair(id="1", question="q", chosen=chosen, rejected=rejected)])
    assert (len(kept), dropped) == ((1, {}) if reason is None else (0, {reason: 1}))


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_pair_with_a_side_that_was_cut_off_is_dropped_and_counted(side):
    whole = PreferencePair(id="1", question="q", chosen="a", rejected="b")
    kept, dropped = learnable_pairs([whole, whole.model_copy(update={"id": "2", "cut_off": [side]})])
    assert kept == [whole]
    assert dropped == {"cut_off": 1}
    assert "cut_off" not in whole.model_dump(), "the rows of a training keep their hashes"
