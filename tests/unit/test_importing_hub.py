"""Datasets of a hub: which files, which columns, and what is said where there is no hub."""

import pytest

from shared.contracts.errors import UserError
from shared.contracts.imports import HubOptions
from shared.importing.hub import chosen


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        (["README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"], {}, ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (["rows.jsonl"], {}, ["rows.jsonl"]),
        (["README.md", "data.csv.gz", "config.json"], {}, ["data.csv.gz"]),
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
        (["data.pdf", "dataset_info.json"], "no Parquet, JSON or CSV"),
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
