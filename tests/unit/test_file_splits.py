"""The split of a file: enough rows of each, twins on one side, and what the file says of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.data import Question, Split
from shared.datasets.splits import Assigned, Splitter


def assigned(rows: list[Question]) -> Assigned:
    splitter = Splitter(0.15, 0.2)
    for row in rows:
        splitter.add(row)
    return splitter.assign()


def question(text: str, **more: Any) -> Question:
    return Question(id=text, question=text, **more)


@given(st.integers(10, 60), st.integers(0, 10**6))
def test_small_files_have_enough_of_each_split(size: int, start: int):
    splits = assigned([question(f"question {start + n}") for n in range(size)]).splits
    assert splits.count(Split.TEST) >= 2
    assert splits.count(Split.DEV) >= 2
    assert splits.count(Split.TRAIN) >= 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is it", "What is it?"),
        ("café au lait", "cafe\u0301 au lait"),
        ("it's here", "it\u2019s here"),
        ("Full width", "Ｆｕｌｌ width"),
    ],
)
def test_twins_stand_on_one_side(one: str, other: str):
    rows = [question(f"filler {n}") for n in range(300)]
    for number in range(40):
        pair = assigned([question(f"{one} {number}"), question(f"{other} {number}"), *rows])
        assert pair.splits[0] == pair.splits[1]
        assert pair.linked["question"] >= 2


def test_the_split_of_a_file_is_used_when_every_row_names_one():
    rows = [question(f"q {n}", split=Split.TEST if n % 2 else Split.TRAIN) for n in range(100)]
    splits, by = assigned(rows).splits, assigned(rows).by
    assert by == "file"
    assert all(split is Split.TEST for split in splits[1::2])
    assert {*splits[::2]} == {Split.TRAIN, Split.DEV}  # dev comes out of train
    assert assigned([*rows, question("one without")]).by != "file"
