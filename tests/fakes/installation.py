"""For the tests of `meteor doctor`: an environment in which nothing is wrong, and what the doctor finds there."""

import os
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from services.local.doctor.checkup import check_up
from services.local.doctor.finding import Finding, Health
from tests.fakes.ports import free_port


def make_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing be wrong; each test plants its fault into it."""
    for name in list(os.environ):
        if name.startswith("METEOR_") or name in ("REDIS_URL", "DATABASE_URL"):
            monkeypatch.delenv(name)
    for name, value in {
        "METEOR_MODELS": tmp_path / "models",
        "METEOR_STUDENT_PATH": small_model(tmp_path / "student"),
        "METEOR_API_PORT": free_port(),
        "METEOR_DISK_FLOOR_GB": 0,
    }.items():
        monkeypatch.setenv(name, str(value))


def small_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    np = pytest.importorskip("numpy")
    save_file({"weight": np.ones((64, 64), dtype="float32")}, folder / "model.safetensors")
    return folder


def seen(data: Path, calls: bool = False) -> list[Finding]:
    return list(check_up(data, os.environ, calls))


def failed(data: Path, calls: bool = False) -> dict[str, Finding]:
    return {finding.name: finding for finding in seen(data, calls) if finding.health is Health.FAIL}


def the_only_failure(data: Path, name: str, calls: bool = False) -> Finding:
    findings = failed(data, calls)
    assert list(findings) == [name], findings
    assert findings[name].fix
    return findings[name]
