"""Labels on SQLite and on PostgreSQL."""

import time

import pytest

from shared.contracts.errors import NotFound, UserError
from shared.contracts.labels import Label
from shared.db.engine import insert_once, writing
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT as MINE
from shared.jobs.tables import projects

THEIRS = "proj_other"


def label(n: int) -> Label:
    return Label(question=f"question {n}?", first="a", second="b", preferred="first", reference="é" if n % 2 else None)


@pytest.fixture(autouse=True)
def _other_project(stores: Stores) -> None:
    with writing(stores.labels.engine) as connection:
        insert_once(connection, projects, {"id": THEIRS, "name": "other", "created_at": time.time()})


def test_the_same_label_is_kept_once_in_each_project(stores: Stores):
    assert stores.labels.add(MINE, [label(1), label(2), label(1)]) == (2, 2)
    assert stores.labels.add(MINE, [label(2), label(3)]) == (1, 3)
    assert stores.labels.add(THEIRS, [label(2)]) == (1, 1)


def test_pages_run_from_the_newest_to_the_oldest(stores: Stores):
    for n in range(5):
        stores.labels.add(MINE, [label(n)])
    stores.labels.add(THEIRS, [label(9)])
    seen, after, more = [], None, True
    while more:
        rows, more = stores.labels.page(MINE, after, 2)
        seen += [row.question for row in rows]
        after = rows[-1].id
    assert seen == [f"question {n}?" for n in (4, 3, 2, 1, 0)]
    (theirs,), _ = stores.labels.page(THEIRS, None, 10)
    with pytest.raises(UserError) as error:
        stores.labels.page(MINE, theirs.id, 2)
    assert (error.value.param, error.value.code) == ("after", "unknown_cursor")


def test_a_sample_stays_the_same_when_labels_are_added(stores: Stores):
    stores.labels.add(MINE, [label(n) for n in range(8)])
    stores.labels.add(THEIRS, [label(100)])
    posted = time.time()
    before = stores.labels.sample(MINE, 5, posted)
    assert len(before) == 5
    stores.labels.add(MINE, [label(n) for n in range(8, 30)])
    assert [row.id for row in stores.labels.sample(MINE, 5, posted)] == [row.id for row in before]
    assert len(stores.labels.sample(MINE, 100, posted)) == 8
    assert len(stores.labels.sample(MINE, 100, time.time())) == 30
    assert stores.labels.sample(MINE, 0, posted) == []


def test_a_label_that_is_taken_back_stays_for_jobs_that_were_posted_before(stores: Stores):
    stores.labels.add(MINE, [label(n) for n in range(4)])
    stores.labels.add(THEIRS, [label(0)])
    posted = time.time()
    before = stores.labels.sample(MINE, 10, posted)
    wrong = before[1]
    stores.labels.delete(MINE, wrong.id)
    assert [row.id for row in stores.labels.sample(MINE, 10, posted)] == [row.id for row in before]
    assert wrong.id not in [row.id for row in stores.labels.sample(MINE, 10, time.time())]
    assert wrong.id not in [row.id for row in stores.labels.page(MINE, None, 10)[0]]
    assert stores.labels.page(MINE, wrong.id, 10)[1] is False, "a page may still go on behind it"
    for project, name in ((MINE, wrong.id), (THEIRS, before[0].id), (MINE, "label-none")):
        with pytest.raises(NotFound):
            stores.labels.delete(project, name)


def test_what_was_taken_back_may_be_given_again(stores: Stores):
    """A job between the two finds none, also when it looks later."""
    assert stores.labels.add(MINE, [label(1)]) == (1, 1)
    (first,), _ = stores.labels.page(MINE, None, 10)
    stores.labels.delete(MINE, first.id)
    between = time.time()
    assert stores.labels.add(MINE, [label(1)]) == (1, 1)
    assert stores.labels.sample(MINE, 10, between) == []
    assert len(stores.labels.sample(MINE, 10, time.time())) == 1
