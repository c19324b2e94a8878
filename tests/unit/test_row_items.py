"""The further fields of rows: kept when a file is read, handed to graders that read them, part of no other step."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Reading, as_upload, parse_line
from shared.contracts.distillation import Distillation
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.files import items_in
from shared.datasets.rows import Items, JobRows
from shared.importing.personal_data import masked_question
from tests.fakes.store_moves import job_rows

ROW = {"messages": [{"role": "user", "content": "Is it fair?"}], "compliant": "yes", "why": {"rules": [1, 2]}}
CODE = {"type": "python", "source": "def grade(sample, item):\n    return 1.0"}
CHECK = {"type": "string_check", "operation": "ilike", "reference": "{{item.compliant}}"}


def read(row: dict[str, Any]) -> Question:
    made = parse_line(1, json.dumps(row).encode(), Reading())
    assert isinstance(made, Question)
    return made


def test_openais_rows_for_reinforcement_keep_their_fields():
    row = read(ROW)
    assert (row.question, row.reference, row.item) == (
        "Is it fair?",
        None,
        {"compliant": "yes", "why": {"rules": [1, 2]}},
    )
    assert read({"question": "1 + 1?", "reference": "2", "level": 3}).item == {"level": 3}
    assert read({"question": "1 + 1?", "reference": "2"}).item is None
    assert Question.model_validate_json(row.model_dump_json()) == row


@pytest.mark.parametrize(
    "row", [ROW, {"question": "1 + 1?", "reference": "2", "level": 3}, {"question": "q", "item": {"a": 1}}]
)
def test_they_stay_where_a_row_is_written_and_read_again(row: dict[str, Any]):
    """As imports and versions of datasets write rows."""
    assert read(as_upload(read(row))) == read(row)


def test_personal_data_in_them_is_masked_too():
    masked = masked_question(read(ROW | {"why": "write to ann@example.org"}), Counter())
    assert masked.item is not None
    assert "ann@example.org" not in masked.item["why"]


@pytest.mark.parametrize(
    ("spec", "items"),
    [
        ({}, Items.LEFT_OUT),
        ({"primary_metric": {"type": "number"}}, Items.LEFT_OUT),
        ({"primary_metric": CHECK | {"reference": "{{item.reference}}"}}, Items.LEFT_OUT),
        ({"primary_metric": CHECK}, Items.KEPT),
        ({"primary_metric": CODE, "judge": {"grader": CODE}, "phases": ["iterate", "evolve"]}, Items.REFERENCES),
        ({"primary_metric": CODE, "judge": {"grader": "number"}, "phases": ["iterate"]}, Items.KEPT),
    ],
)
def test_what_a_job_does_with_them(spec: dict[str, Any], items: Items):
    assert items_in(Distillation.model_validate({"domain": "d"} | spec)) is items


def test_they_stand_for_references_where_nothing_but_graders_reads_those(tmp_path: Path):
    given = [read(ROW), read({"question": "1 + 1?", "reference": "2", "level": 3}), read({"question": "bare?"})]
    stored = job_rows(
        Artifacts(tmp_path), [row.model_copy(update={"id": str(n)}) for n, row in enumerate(given)]
    ).training
    left, kept, taken = (JobRows(stored, items=items) for items in (Items.LEFT_OUT, Items.KEPT, Items.REFERENCES))
    assert [row.item for row in left] == [None] * 3
    assert [row.reference for row in kept] == [None, "2", None]
    assert [row.item for row in kept] == [row.item for row in given]
    assert [row.reference for row in taken] == [json.dumps(given[0].item, sort_keys=True), "2", None]
    assert taken.has(HAS_REFERENCE).tolist() == [True, True, False]
    assert left.has(HAS_REFERENCE).tolist() == [False, True, False]
