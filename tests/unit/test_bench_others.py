"""What the side-by-side benches stand on: tools in environments of their own, and faults of a dataset counted from calls and rows."""

import sys
from pathlib import Path

import pytest

from tests.bench.others import NotInstalled, clean_environment, or_skipped, python_with
from tests.bench.versus_generation import Run, _faults


def test_a_tool_that_is_there_is_told_by_its_python():
    assert python_with(Path(sys.executable), "json", "--json", "json") == Path(sys.executable)


@pytest.mark.parametrize(
    ("python", "reason"),
    [(None, "not compared"), (Path("/nowhere/python"), "does not exist"), (Path(sys.executable), "cannot import")],
    ids=["none", "no file", "no module"],
)
def test_a_tool_that_is_missing_is_skipped_with_a_remedy(python: Path | None, reason: str):
    told = or_skipped(lambda: python_with(python, "no_such_module", "--tool", "tool==1"))
    assert reason in told["skipped"]
    assert "pip install tool==1" in told["skipped"]
    with pytest.raises(NotInstalled):
        python_with(python, "no_such_module", "--tool", "tool==1")


def test_a_foreign_python_gets_neither_our_path_nor_a_proxy(monkeypatch: pytest.MonkeyPatch):
    for name in ("PYTHONPATH", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "x")
    kept = clean_environment(MORE="1")
    assert {"PYTHONPATH", "HTTPS_PROXY", "https_proxy"}.isdisjoint(kept)
    assert kept["MORE"] == "1"


def test_duplicates_missing_rows_and_repeated_calls_are_counted():
    outcomes = [(0, "answered"), (1, "client_gone"), (1, "answered"), (2, "answered"), (2, "answered")]
    calls = [
        {"messages": [{"role": "user", "content": f"question {number} of bench"}], "outcome": outcome}
        for number, outcome in outcomes
    ]
    rows = [f"question {number} of bench" for number in (0, 0, 1)]
    assert _faults(Run(rows, 1.0), calls, 3) == {
        "ended": True,
        "rows": 3,
        "duplicates": 1,
        "missing": 1,
        "calls": 5,
        "asked_again": 2,
        "answered_again": 1,
    }
