"""Rows in JSON, YAML and tables of any layout, and under any names."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.data import LineError, Question, Split
from shared.contracts.file_reading import ReadOptions
from shared.contracts.unfolding import conversations, single_messages
from shared.importing.dataset import DataFile
from tests.fakes.data_files import TURN, written

Q, A = ["q0", "q1"], ["a0", "a1"]
HELD: dict[str, tuple[Any, list[tuple[str, str | None]], dict[str, Any]]] = {  # name: content, (question, reference), fields of the first
    "objects under keys": ({"x": {"question": "q0", "answer": "a0"}, "y": {"question": "q1", "answer": "a1"}}, [("q0", "a0"), ("q1", "a1")], {"id": "x"}),
    "columns of lists": ({"question": Q, "answer": A}, [("q0", "a0"), ("q1", "a1")], {}),
    "columns of objects": ({"question": {"0": "q0", "1": "q1"}, "answer": {"0": "a0", "1": "a1"}}, [("q0", "a0"), ("q1", "a1")], {}),
    "columns and data": ({"columns": ["question", "answer"], "index": [0, 1], "data": [["q0", "a0"], ["q1", "a1"]]}, [("q0", "a0"), ("q1", "a1")], {}),
    "lists with a header": ([["Question", "Answer"], ["q0", "a0"]], [("q0", "a0")], {}),
    "pairs": ([["q0", "a0"], ["q1", "a1"]], [("q0", "a0"), ("q1", "a1")], {}),
    "talks of unlike lengths": ([["q0", "a0"], ["x", "y", "q1", "a1"]], [("q0", "a0"), ("q1", "a1")], {}),
    "questions as keys": ({f"What is {n}?": f"a{n}" for n in range(3)}, [(f"What is {n}?", f"a{n}") for n in range(3)], {}),
    "splits as keys": ({"test": [["q0", "a0"]], "oos_train": [["q1", "a1"]]}, [("q0", "a0"), ("q1", "a1")], {"split": Split.TEST}),
    "categories as keys": ({"pay": [{"q": "q0", "a": "a0"}], "send": [{"q": "q1", "a": "a1"}]}, [("q0", "a0"), ("q1", "a1")], {"category": "pay"}),
    "passages": ({"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "q0", "answers": [{"text": "a0"}]}, {"id": "2", "question": "q1", "answers": []}]}]}]}, [("q0", "a0"), ("q1", None)], {"context": "c", "group": "T", "id": "1"}),
    "passages of a list": ([{"context_text": "c", "title": "T", "qas": [{"query_text": "q0", "query_id": "1", "answers": ["a0", "a"]}]}], [("q0", "a0")], {"context": "c"}),
    "seed tasks": ([{"id": "s", "instruction": "q0", "instances": [{"input": "", "output": "a0"}, {"input": "x", "output": "a1"}]}], [("q0", "a0"), ("q0\n\nx", "a1")], {}),
    "intents": ({"intents": [{"tag": "t", "patterns": Q, "responses": ["a0", "b"]}]}, [("q0", "a0"), ("q1", "a0")], {"group": "t"}),
    "a page of the viewer": ({"features": [], "rows": [{"row_idx": 0, "row": {"question": "q0", "answer": "a0"}, "truncated_cells": []}]}, [("q0", "a0")], {}),
    "labelled tasks": ([{"id": 1, "data": {"text": "q0"}, "annotations": [{"result": [{"value": {"choices": ["a0"]}}]}]}], [("q0", "a0")], {}),
    "a tree": ([{"message_tree_id": "t", "prompt": TURN[0]}], [("q0", "a0")], {"group": "t"}),
    "single messages": ([{"message_id": 1, "parent_id": None, "role": "prompter", "text": "q0"}, {"message_id": 2, "parent_id": 1, "role": "assistant", "text": "a0"}], [("q0", "a0")], {}),
    "a log of talks": ([{"conversation_id": "c", "speaker": "Customer", "text": "q0"}, {"conversation_id": "c", "speaker": "Agent", "text": "a0"}], [("q0", "a0")], {"group": "c"}),
    "one object over lines": ({"conversations": [{"from": "human", "value": "q0"}, {"from": "gpt", "value": "a0"}]}, [("q0", "a0")], {}),
    "sentences and queries": ([{"sentences": [{"text": "q0"}, {"text": "q1"}], "sql": ["a0"]}], [("q0", "a0"), ("q1", "a0")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_json_holds_rows_in_many_ways(tmp_path: Path, name: str):
    content, pairs, first = HELD[name]
    rows = list(DataFile.open(written(tmp_path / "data", json.dumps(content, indent=1).encode())).rows())
    assert [(row.question, row.reference) for row in rows if isinstance(row, Question)] == pairs
    assert isinstance(rows[0], Question)
    assert rows[0].model_dump(include={*first}) == first


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 4), st.booleans()), min_size=1, max_size=8))
def test_messages_that_link_in_any_way_are_all_read(links: list[tuple[int, int | None, bool]]):
    messages = [
        {"id": own, "parent_id": link, "role": "assistant" if answer else "prompter", "text": f"<{place}>"}
        for place, (own, link, answer) in enumerate(links)
    ]
    named = single_messages(messages[0])
    assert named is not None
    talks = list(conversations(messages, named))
    assert len(talks) <= len(links)
    assert all(1 <= len(talk["conversation"]) <= len(links) for talk in talks)
    roots = {talk["conversation"][0]["text"] for talk in talks}
    assert roots >= {f"<{place}>" for place, (_, link, _) in enumerate(links) if link is None}


YAMLS = {
    "conversations": ("categories:\n- AI\nconversations:\n- - q0\n  - a0\n", [("q0", "a0", "AI")]),
    "intents": ("version: '3'\nnlu:\n- intent: a0\n  examples: |\n    - q0\n    - q1\n", [("q0", "a0", None), ("q1", "a0", None)]),
    "rows": ("- question: q0\n  answer: 5\n- question: q1\n  answer: 2024-01-02\n", [("q0", "5", None), ("q1", "2024-01-02", None)]),
}  # fmt: skip


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_holds_rows(tmp_path: Path, name: str):
    content, expected = YAMLS[name]
    file = DataFile.open(written(tmp_path / "data", content.encode()))
    assert file.layout.words == "YAML, utf-8"
    assert [(row.question, row.reference, row.category) for row in file.rows() if isinstance(row, Question)] == expected


@pytest.mark.parametrize(
    ("content", "mapping", "pairs"),
    [
        ('[{"x": {"t": "q0"}, "y": [{"z": "a0"}]}]', {"question": "x.t", "reference": "y.0.z"}, [("q0", "a0")]),
        ('[{"qs": [{"a": "q0", "b": "a0"}, {"a": "q1"}]}]', {"question": "qs.*.a", "reference": "qs.*.b"}, [("q0", "a0"), ("q1", None)]),
        ('[{"s": "p", "ps": [{"c": "x", "qs": [{"a": "q0"}]}]}]', {"question": "ps.*.qs.*.a", "reference": "s"}, [("q0", "p")]),
        ('[{"a": "q0", "b": "more", "c": "a0"}]', {"question": "a+b", "reference": "c"}, [("q0\n\nmore", "a0")]),
        ('[{"question": "q0", "kind": "x", "gold": "a0"}]', {"reference": "kind"}, [("q0", "x")]),
        ('[{"question": "q0", "answer": "a0"}]', {"reference": ""}, [("q0", None)]),
        ("q0,x,a0\nq1,x,a1\n", {"question": "column_1", "reference": "column_3"}, [("q0", "a0"), ("q1", "a1")]),
        ("What, now?\nWho\n", {"question": "column_1", "reference": ""}, [("What, now?", None), ("Who", None)]),
    ],
)  # fmt: skip
def test_a_mapping_reaches_everything(tmp_path: Path, content: str, mapping: dict, pairs: list):
    file = DataFile.open(written(tmp_path / "data", content.encode()), ReadOptions(mapping=mapping))
    rows = list(file.rows())
    assert [(row.question, row.reference) for row in rows if isinstance(row, Question)] == pairs


def test_a_test_without_a_header_is_multiple_choice(tmp_path: Path):
    content = b'"Which, please?",w,x,y,z,C\nAnd which?,1,2,3,4,A\n'
    rows = list(DataFile.open(written(tmp_path / "data", content)).rows())
    assert [(row.question, row.reference) for row in rows if isinstance(row, Question)] == [
        ("Which, please?\nA. w\nB. x\nC. y\nD. z", "C. y"),
        ("And which?\nA. 1\nB. 2\nC. 3\nD. 4", "A. 1"),
    ]


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "x\\\\\\ud83d y", "\\uD83D\\u0041"])
@pytest.mark.parametrize("before", [0, 65_530, 65_534])
def test_half_of_a_pair_in_a_list_is_never_replaced(tmp_path: Path, escape: str, before: int):
    good = json.dumps({"question": "😀 \\ud800", "answer": "x" * before})
    file = DataFile.open(written(tmp_path / "data", f'[{good}, {{"question": "{escape}"}}]'.encode()))
    first, second = file.rows()
    assert isinstance(first, Question)
    assert first.question == "😀 \\ud800"
    assert isinstance(second, LineError)
    assert second.code == "invalid_unicode"
