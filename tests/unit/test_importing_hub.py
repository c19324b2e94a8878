"""Datasets of a hub: which files, which columns, and what is said where there is no hub."""

import pytest

from shared.contracts.errors import UserError
from shared.contracts.imports import HubOptions
from shared.importing.hub import chosen, mapped


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        (["README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"], {}, ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (["rows.jsonl"], {}, ["rows.jsonl"]),
        (["train.jsonl", "test.jsonl"], {"split": "test"}, ["test.jsonl"]),
        (["en/train.parquet", "de/train.parquet"], {"config": "de"}, ["de/train.parquet"]),
        (["trainer.jsonl", "train.jsonl"], {}, ["train.jsonl"]),
    ],
)  # fmt: skip
def test_the_files_of_a_split(files: list[str], options: dict, expected: list[str]):
    assert chosen(files, HubOptions(dataset="o/n", **options)) == expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["o.py"], "loading script is not run"),
        (["data.csv"], "no Parquet or JSONL"),
        (["en/train.parquet", "de/train.parquet"], "folders de, en; name one as config"),
        (["a.jsonl", "b.jsonl"], "no such split"),
    ],
)
def test_what_there_is_is_said_when_it_is_not_enough(files: list[str], words: str):
    with pytest.raises(UserError, match=words):
        chosen(files, HubOptions(dataset="o/n"))


@pytest.mark.parametrize("name", ["../x", "a/b/c", "/etc", "a/../b", "o/n?x=1", ""])
def test_names_lead_nowhere_else(name: str):
    with pytest.raises(ValueError):
        HubOptions(dataset=name)


def test_columns_by_usual_names_by_ours_and_nested():
    assert mapped({"instruction": "q", "output": 5, "input": ""}, {}) == {
        "question": "q",
        "reference": "5",
        "context": "",
    }
    squad = {"question": "q", "answers": {"text": ["a", "b"], "start": [1]}}
    assert mapped(squad, {"question": "question", "reference": "answers.text.0"})["reference"] == "a"
    assert mapped(squad, {"question": "question", "reference": "answers.text.7"})["reference"] is None
    turns = [{"role": "user", "content": "q"}]
    assert mapped({"messages": turns, "prompt": "p"}, {}) == {"messages": turns}


@pytest.mark.parametrize(
    ("value", "columns", "words"),
    [
        ({"text": "t", "label": 1}, {}, "name the column of the question; there are text, label"),
        ({"text": "t"}, {"question": "txt"}, "no column 'txt'; there is text"),
        ({"text": "t"}, {"question": "text.a"}, "no column 'a'; there is str"),
        ({"a": {"b": 1}}, {"question": "a.c"}, "no column 'c'; there is b"),
    ],
)
def test_a_missing_column_is_named(value: dict, columns: dict, words: str):
    with pytest.raises(UserError, match=words):
        mapped(value, columns)
