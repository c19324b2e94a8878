"""The short form of `make clients`: the driver of the stock client with the stand-in for the engine. And what the table says."""

import json
import runpy
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.clients.__main__ import CLIENTS
from tests.clients.environments import REQUIREMENTS, locked, node_versions
from tests.clients.table import ABILITIES, Tried, document, on_screen
from tests.contract.conftest import BASE, KEY, RunningApi, rows

DRIVE = Path(__file__).parents[1] / "clients/drive"


def test_the_stock_client_has_every_ability(
    api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "rows.jsonl"
    data.write_bytes(rows(60, start=700))
    environment = {
        "OPENAI_BASE_URL": f"{api.url}/v1",
        "OPENAI_API_KEY": KEY,
        "METEOR_MODEL": BASE,
        "METEOR_ROWS": str(data),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(DRIVE)
    try:
        runpy.run_path(str(DRIVE / "openai_python.py"), run_name="__main__")
    finally:
        sys.modules.pop("abilities", None)
    said = json.loads(capsys.readouterr().out)
    assert set(said) == set(ABILITIES) - {"generate"}
    assert set(said.values()) == {"ok"}, said


def test_every_client_has_its_versions_pinned():
    drivers = {path.name for folder in ("drive", "node") for path in (DRIVE.parent / folder).glob("*.[pm]*")}
    assert {client.driver for client in CLIENTS.values()} | {"abilities.py", "abilities.mjs"} == drivers
    environments = {client.environment for client in CLIENTS.values() if client.environment}
    assert environments == {path.stem for path in REQUIREMENTS.glob("*.lock")}
    for client in CLIENTS.values():
        versions = locked(client.environment) if client.environment else node_versions()
        assert client.package in versions
        assert all(version[0].isdigit() for version in versions.values())


def test_what_failed_and_what_was_left_out_is_said():
    tried = [
        Tried("good", "good", "1.0", {"chat": "ok", "errors": "ok"}),
        Tried("bad", "bad", "2.0", {"chat": "RuntimeError: no"}),
        Tried("gone", "gone", "3.0", left_out="its packages cannot be installed: none"),
    ]
    assert on_screen(tried).splitlines() == [
        "client    chat      errors",
        "good 1.0  ok        ok",
        "bad 2.0   FAILED    -",
        "gone 3.0  left out  left out",
        "bad: chat: RuntimeError: no",
        "gone: left out, its packages cannot be installed: none",
    ]
    page = document(tried, "tiny", date(2026, 11, 30))
    assert "| bad 2.0 | FAILED | - |" in page
    assert "- gone: its packages cannot be installed" in page
    assert "2026-11-30" in page
