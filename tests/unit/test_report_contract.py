"""The contract of the report: what is built, stored and read back is the same, and an older report is upgraded once."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.phase_records import DevGain, PilotRecord
from shared.contracts.report import REPORT_VERSION, Report, WinRecord, read_report
from shared.contracts.report_part import Triple
from tests.fakes.reports import REPORT, WHOLE


@pytest.mark.parametrize("stored", [REPORT, WHOLE])
def test_a_report_of_version_1_is_upgraded_once(stored: dict[str, Any]):
    report = read_report(stored)
    assert report.version == REPORT_VERSION
    written = json.loads(report.model_dump_json())
    assert read_report(written) == report
    assert written["table"][0]["metrics"] == stored["table"][0]["metrics"]


def test_the_gains_of_the_first_reports_are_those_of_the_primary_metric():
    final = read_report(REPORT).final
    assert final.by_metric == {name: {"chrf": gain} for name, gain in final.over.items()}
    assert final.over["base"] == Triple(-0.25, -0.35, -0.15)


def test_fields_of_a_later_version_are_ignored():
    later = read_report(REPORT | {"version": REPORT_VERSION + 1, "later": {"a": [1]}} | _complete())
    assert later.version == REPORT_VERSION + 1
    assert later.table == read_report(REPORT).table


def _complete() -> dict[str, Any]:
    """REPORT as this version writes it."""
    written = json.loads(read_report(REPORT).model_dump_json())
    return {name: part for name, part in written.items() if name != "version"}


def test_an_optional_field_is_left_out_unless_it_was_set():
    record = PilotRecord(questions=4, usable={"none": 4}, guidance="none")
    assert record.model_dump(mode="json") == {"questions": 4, "usable": {"none": 4}, "guidance": "none"}
    empty = PilotRecord(questions=4, usable={"none": 0}, compared=0, student_nll=None, guidance="none")
    assert empty.model_dump(mode="json")["student_nll"] is None


def test_parts_are_frozen_and_know_their_fields():
    gain = DevGain(gain=Triple(0.1, 0.0, 0.2), kept=True)
    with pytest.raises(ValidationError):
        gain.kept = False  # pyrefly: ignore[read-only]
    with pytest.raises(ValidationError):
        WinRecord.model_validate({"win": 1, "tie": 1, "loss": 1, "draw": 1})


def test_there_is_no_report_without_the_base():
    with pytest.raises(ValidationError):
        Report.model_validate(WHOLE | {"table": []})
