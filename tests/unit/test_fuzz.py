"""The saved inputs, and what findings left behind, give a result or the documented error; a short run of the fuzzer itself."""

from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.__main__ import HERE, fuzz

SAVED = sorted((HERE / "corpus").glob("*/*"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_saved_input(path: Path):
    targets.TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_saved_inputs():
    assert {path.parent.name for path in SAVED} == set(targets.TARGETS)


def test_a_short_run_finds_nothing(tmp_path: Path):
    result = fuzz("jsonl", minutes=0.5, runs=500, folder=tmp_path)
    assert result["findings"] == []
    assert result["executions"] >= 500


def test_a_finding_is_found(monkeypatch: pytest.MonkeyPatch):
    """The targets look at what comes out: a row that changes on its way back is no success."""
    monkeypatch.setattr(targets, "split_of", lambda row, dev, test: object())
    with pytest.raises(AssertionError):
        targets.jsonl(b'{"question": "a"}\n')
