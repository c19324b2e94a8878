"""Passages: every word of a document stands in one of them, in order, whatever the document is made of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.importing.passages import LONGEST, SHORTEST, passages_of

WORD = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
PROSE = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
HEADING = st.tuples(st.integers(1, 6), PROSE).map(lambda pair: "#" * pair[0] + " " + pair[1])
CODE = st.lists(PROSE, max_size=8).map(lambda lines: "\n".join(["```python", *lines, "```"]))
TABLE = st.lists(PROSE, min_size=1, max_size=8).map(lambda rows: "\n".join(["| a | b |", "|---|---|", *map("| {} |".format, rows)]))  # fmt: skip
BLOCK = st.one_of(PROSE, PROSE.map(lambda text: (text + ". ") * 60), HEADING, CODE, TABLE, st.text(max_size=50))
GAP = st.sampled_from(["\n", "\n\n", "\r\n\r\n", "\n \n"])
DOCUMENT = st.lists(st.tuples(BLOCK, GAP), min_size=1, max_size=12).map(lambda parts: "".join(map("".join, parts)))


@settings(max_examples=40, deadline=None)
@given(DOCUMENT)
def test_the_words_of_all_passages_are_the_words_of_the_document(text: str):
    made = passages_of("d", text)
    expected = text.replace("\x00", "").split()
    letters = "".join(part for passage in made for part in passage.text.split())
    assert letters == "".join(expected)
    if max(map(len, expected), default=0) <= LONGEST // 2:
        assert [word for passage in made for word in passage.text.split()] == expected
    assert all(len(passage.text) <= LONGEST + 2 * SHORTEST + 2 * LONGEST // 10 for passage in made)
    assert all(len(passage.text) >= SHORTEST for passage in made) or len(made) == 1


LINES = [f"row_{number} = value {number}" for number in range(300)]
PARTS = [
    ("prose", " ".join(f"Sentence {number} ends here." for number in range(300)), ".", ""),
    ("Chinese prose", "第一句话在这里结束。" * 400, "。", ""),
    ("code", "\n".join(["```", *LINES, "```"]), "0123456789`", ""),
    ("table", "\n".join(["| name | value |", "| --- | --- |", *(f"| {line} | x |" for line in LINES)]), "|", "| name | value |\n| --- | --- |"),
    ("one word", "x" * 10_000, "x", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "ends", "header"), [pytest.param(*part[1:], id=part[0]) for part in PARTS])
def test_what_is_too_long_is_cut_where_a_reader_would(text: str, ends: str, header: str):
    made = passages_of("d", f"# Title\n\n## Part\n\n{text}")
    assert len(made) > 2
    assert all(len(passage.text) <= LONGEST + SHORTEST for passage in made)
    assert all(passage.text[-1] in ends for passage in made)
    assert {passage.heading for passage in made[1:]} == {"\n".join(filter(None, ("Title > Part", header)))}


def test_headings_that_are_over_are_not_said():
    text = "word " * 60
    made = passages_of("d", f"# One\n{text}\n## Two\n{text}\n# Three\n{text}\n\nmore {text * 4}")
    assert [passage.heading for passage in made] == ["", "One", "", "Three"]
