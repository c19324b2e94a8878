"""Two files as the rows of one job: ids that tell them apart, sides of the split, and what stands in both."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.artifacts.store import Artifacts
from shared.contracts.data import MAX_ID, Question, Split
from shared.datasets.rows import JobRows
from shared.datasets.two_files import shared_with_training
from tests.fakes.store_moves import job_rows


def merged(training: Sequence[Question], validation: Sequence[Question]) -> JobRows:
    artifacts = Artifacts(Path(tempfile.mkdtemp()))
    return JobRows(job_rows(artifacts, training).training, job_rows(artifacts, validation).training)


def row(name: str, text: str = "", split: Split | None = None, group: str | None = None) -> Question:
    return Question(id=name, question=text or name, split=split, group=group)


names = st.lists(
    st.text("ab-1", min_size=1, max_size=4).map(lambda t: f"validation-{t}" if "b" in t else t), unique=True
)


@given(names, names, st.booleans())
@settings(max_examples=30)
def test_ids_stay_different_and_short(first: list[str], second: list[str], long: bool):
    pad = "x" * (MAX_ID - 15) if long else ""
    both = merged(
        [row(name, split=Split.TRAIN) for name in first], [row(pad + name, split=Split.TEST) for name in second]
    )
    ids = [one.id for one in both]
    assert len(set(ids)) == len(ids) == len(first) + len(second)
    assert max(map(len, ids), default=0) <= MAX_ID
    assert [one.split for one in both] == [Split.TRAIN] * len(first) + [Split.DEV] * len(second)
    assert [both.find(name) for name in ids] == list(range(len(ids)))
    some = range(0, len(ids), 2)
    assert [one.id for one in both.read(some)] == ids[::2]


def test_what_was_dev_is_learned_from_and_test_stays():
    both = merged([row(split.value, split=split) for split in Split], [])
    assert [one.split for one in both] == [Split.TRAIN, Split.TRAIN, Split.TEST]


def test_the_same_question_or_group_is_found_however_it_is_given():
    rows = [row("1", "What is  this?"), row("2", "b", group="g"), row("3", "c", group="h")]
    others = [row("x", "what IS this?", group="other"), row("y", "new", group="g"), row("z", "C"), row("w", "fine")]
    assert merged(rows, others).in_both() == ["x", "y", "z"]


def test_near_twins_references_and_passages_of_the_training_file_are_counted():
    artifacts, passage = Artifacts(Path(tempfile.mkdtemp())), "A hive has one queen and many workers. " * 4
    said = "In the morning, when the sun has warmed the hive."
    training = [
        row("1", "When do the bees of a hive fly out to the flowers in spring?"),
        Question(id="2", question="Who rules?", context=passage),
        Question(id="3", question="When is it opened?", reference=said),
    ]
    validation = [
        row("a", "When do the bees of a hive fly out to the flowers in springs?"),
        Question(id="b", question="How many queens?", context=passage),
        Question(id="c", question="At what time?", reference=said),
        row("d", "Something else altogether, with nothing in common?"),
    ]
    both = [job_rows(artifacts, rows).training.references for rows in (training, validation)]
    assert shared_with_training(artifacts, *both) == {"near": 1, "passage": 1, "reference": 1}
    assert shared_with_training(artifacts, both[1], both[0]) == {"near": 1, "passage": 1, "reference": 1}
    assert shared_with_training(artifacts, both[0], job_rows(artifacts, [validation[3]]).training.references) == {}
