"""Which rows stand on one side of a split: twins of every kind, within limits, in any order of the file."""

import random
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.datasets import grouping
from shared.datasets.rows import JobRows, Spool, StoredRows, stored
from shared.datasets.splits import Assigned, Splitter

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "jetty",
    "knoll",
    "larch",
    "maple",
    "noble",
    "ocean",
    "pearl",
    "quill",
    "ridge",
]
PASSAGE = "The harbour of the old town was built between two wars, and its {} gate was moved by hand in the year {}. "


def question(name: object, text: str, **more: Any) -> Question:
    return Question(id=str(name), question=text, **more)


def assigned(rows: list[Question], dev: float = 0.15, test: float = 0.2) -> Assigned:
    splitter = Splitter(dev, test)
    for row in rows:
        splitter.add(row)
    return splitter.assign()


def text(dice: random.Random, words: int = 9) -> str:
    return " ".join(dice.choices(WORDS, k=words)) + " " + "".join(dice.choices("abcdefghij", k=12))


def fillers(count: int) -> list[Question]:
    dice = random.Random(5)
    return [question(f"f{n}", text(dice), reference=text(dice)) for n in range(count)]


LONG = "How do I move a branch of my repository to another server without losing the history of its files"
TWINS = {
    "question": (question(1, "What is it, then"), question(2, "what is it – then?")),
    "group": (question(1, "One thing?", group="a"), question(2, "Quite another?", group="a")),
    "asked": (
        question(1, "What is 2+2?", context="You are kind. Today is 2024-05-01."),
        question(2, "What is 2+2?", context="You are kind. Today is 2025-11-30."),
    ),
    "asked without": (question(1, "What is 2+2?", context="Today is 2024-05-01."), question(2, "what is 2+2")),
    "near": (question(1, LONG + "?"), question(2, LONG.replace("losing", "loosing") + ", please?")),
    "near in Chinese": (
        question(1, "请问如何把我的代码仓库里的一个分支移动到另一台服务器上而且不丢失文件的历史记录呢"),
        question(2, "请问如何把我的代码仓库里的一个分支移动到另一台服务器上而且不丢失文件的历史记录"),
    ),
    "reference": (
        question(1, "How many states are there?", reference="SELECT count(*) FROM state;"),
        question(2, "Number of states", reference="select COUNT(*) from state"),
    ),
    "passage": (
        question(1, "Who built it?", context=PASSAGE.format("north", 1920) * 2),
        question(2, "When was the gate moved?", context=PASSAGE.format("north", 1920) * 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TWINS)
def test_twins_stand_on_one_side(kind: str):
    rest, sides = fillers(210), Counter[bool]()
    for number in range(8):  # by chance they would stand on one side in half of the cases
        tag = f"tag{number}"
        pair = [
            row.model_copy(
                update={"question": f"{row.question} {tag}", "group": row.group and row.group + tag}
                | {"reference": row.reference and f"{row.reference} {tag}"}
                | {"context": row.context and (row.context + tag if kind == "passage" else row.context)}
            )
            for row in TWINS[kind]
        ]
        split = assigned([*pair, *rest])
        sides[split.codes[0] == split.codes[1]] += 1
        assert split.left == {}
    assert sides[False] == 0


APART = {
    "other numbers": ("What is 17 plus 25 in the decimal system of today?", "What is 17 plus 26 in the decimal system of today?"),
    "other words": ("What is the capital of France?", "What is the capital of Spain?"),
}  # fmt: skip


@pytest.mark.parametrize("kind", APART)
def test_different_questions_are_not_linked(kind: str):
    rows = [question(number, one, reference="yes") for number, one in enumerate(APART[kind])]
    assert assigned([*rows, *fillers(250)]).linked == {}


def test_labels_templates_and_common_passages_link_nothing():
    dice = random.Random(1)
    labels = ["the review is positive", "the review is negative", "nobody can tell that"]
    same = "You are the assistant of a bank. Answer in whole sentences and never name an account number to anybody. "
    rows = [
        question(n, f"{text(dice)}?", reference=dice.choice(labels), context=same, category="c") for n in range(400)
    ]
    split = assigned(rows)
    assert split.linked == {}
    assert min(split.counts.values()) > 30
    template = "Translate the following word into the German language and give its article as well: "
    rows = [question(n, template + "".join(dice.choices("abcdefghij", k=6)), reference=text(dice)) for n in range(400)]
    assert min(assigned(rows).counts.values()) > 30


def test_rows_that_belong_together_get_one_group(tmp_path: Path):
    near = (question(1, LONG), question(2, LONG.replace("losing", "loosing")))
    passage, given = TWINS["passage"], TWINS["group"]
    rows = [*near, *(row.model_copy(update={"id": f"p{row.id}"}) for row in passage), *given, *fillers(250)]
    rows = [row.model_copy(update={"id": str(n)}) for n, row in enumerate(rows)]
    references, _ = stored(Artifacts(tmp_path), rows, Splitter(0.15, 0.2))
    groups = [row.group for row in StoredRows(Artifacts(tmp_path), references)]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert str(groups[0]).startswith("like-")
    assert groups[4:6] == ["a", "a"]
    assert {*groups[6:]} == {None}


def test_what_a_file_says_of_its_splits_is_used_and_what_is_left_between_them_is_counted():
    rows = [question(n, text(random.Random(n)), split=Split.TEST if n % 2 else Split.TRAIN) for n in range(40)]
    twins = [
        question("a", "Same here", split=Split.TRAIN), question("b", "same HERE!", split=Split.TEST),
        question("c", LONG, split=Split.TRAIN), question("d", LONG + " now", split=Split.TEST),
    ]  # fmt: skip
    split = assigned([*rows, *twins])
    assert split.by == "file"
    assert (split.codes[40], split.codes[41]) == (0, 2)
    assert split.left == {"question": 1, "near": 1}


keys = st.integers(0, 12)
rows_of_keys = st.lists(st.tuples(keys, keys, keys, keys), min_size=1, max_size=60)


@given(rows_of_keys, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_nothing_strong_is_left_and_the_order_of_the_file_does_not_matter(
    drawn: list[tuple[int, ...]], dice: random.Random
):
    rows = [
        question(
            n,
            text(random.Random(a)),
            group=f"g{b}" if b < 6 else None,
            reference=f"the answer in words, {c} of them" if c < 8 else "yes",
            context=PASSAGE.format("west", d) * 2 if d < 8 else None,
        )
        for n, (a, b, c, d) in enumerate(drawn)
    ]
    split = assigned(rows)
    assert not {"group", "question"} & split.left.keys()
    assert sum(split.counts.values()) == len(rows)
    order = list(range(len(rows)))
    dice.shuffle(order)
    mixed = assigned([rows[n] for n in order])
    assert [mixed.codes[order.index(n)] for n in range(len(rows))] == [*split.codes]
    for (one, first), (other, second) in combinations(enumerate(rows), 2):
        if first.group and first.group == second.group:
            assert split.codes[one] == split.codes[other]


@pytest.mark.parametrize("size", [10, 12, 16, 20, 30, 50])
@pytest.mark.parametrize("in_group", [1, 2, 5])
def test_small_files_have_enough_of_every_split(size: int, in_group: int):
    for seed in range(4):
        dice = random.Random(size * 100 + seed)
        split = assigned([question(n, text(dice), group=f"{seed}-{n // in_group}") for n in range(size)])
        counts = split.counts
        if size >= 6 * in_group:
            assert counts["test"] >= 2, counts
            assert counts["dev"] >= 2, counts
            assert counts["train"] >= 4, counts


def test_large_groups_are_as_likely_on_one_side_as_small_ones():
    dice = random.Random(2)
    rows = [
        question((n, m), text(dice), context=PASSAGE.format(text(dice, 3), n) * 2) for n in range(400) for m in range(1)
    ]
    rows = [r.model_copy(update={"id": f"{r.id}-{k}", "question": text(dice)}) for r in rows for k in range(6)]
    split = assigned(rows)
    assert split.linked == {"passage": 2400}
    assert split.counts["test"] == pytest.approx(480, rel=0.25)


def test_rows_whose_columns_went_to_the_disk_are_split_stored_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grouping, "IN_MEMORY", 1000)
    count, dice = 9000, random.Random(4)
    splitter, spool = Splitter(0.15, 0.2), Spool()
    for number in range(count):
        row = question(number, f"{dice.choice(WORDS)} {dice.choice(WORDS)} {number // 2}", reference=str(number))
        splitter.add(row)
        spool.add(row)
    assignment = splitter.assign()
    assert assignment.linked.keys() <= {"question", "near"}
    artifacts = Artifacts(tmp_path)
    rows = JobRows(StoredRows(artifacts, spool.store(artifacts, assignment, splitter)))
    assert {split.value: rows.counts[split] for split in Split} == assignment.counts
    assert [row.id for row in rows.read([count - 1, 5, 6, 4000])] == [str(count - 1), "5", "6", "4000"]
    assert rows.find("6500") == 6500
    assert rows.find("nobody") is None
