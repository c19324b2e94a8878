"""An environment for each client in the user's cache folder, made once per lockfile: no two clients want the same libraries."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from platformdirs import user_cache_path

from tests.fakes.npm import NoNode, node_modules

REQUIREMENTS = Path(__file__).parent / "requirements"
NODE = Path(__file__).parent / "node"
INSTALL_S = 900


class LeftOut(Exception):
    """Why a client cannot be tried here."""


def locked(name: str) -> dict[str, str]:
    """Package -> version, as the client's lockfile has them."""
    lines = (REQUIREMENTS / f"{name}.lock").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def python_of(name: str) -> Path:
    """The interpreter of a client's environment, which is made where it is missing. Raises LeftOut."""
    lock = REQUIREMENTS / f"{name}.lock"
    of = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = user_cache_path("meteor") / "clients" / f"{name}-{of}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in _commands(folder, lock):
            _run(command)
        (folder / "complete").touch()
    return folder / "bin" / "python"


def _commands(folder: Path, lock: Path) -> list[list[str]]:
    """With uv where it is there, as the Makefile does it."""
    python, uv = str(folder / "bin" / "python"), shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "-r", str(lock)],
        ]
    quiet = ["--disable-pip-version-check", "--no-input", "--no-compile", "-q"]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", *quiet, "--no-deps", "-r", str(lock)],
    ]


def _run(command: list[str]) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, env=kept)
    except subprocess.TimeoutExpired as error:
        raise LeftOut(f"its packages were not installed within {INSTALL_S} s") from error
    if done.returncode:
        raise LeftOut(f"its packages cannot be installed: {' '.join(done.stderr.split())[-300:]}")


def node_versions() -> dict[str, str]:
    return json.loads((NODE / "package.json").read_text())["dependencies"]


def node_of() -> tuple[str, Path]:
    """(node, a folder with the drivers and the packages that they import). Raises LeftOut."""
    try:
        node, modules = node_modules(NODE)
    except NoNode as reason:
        raise LeftOut(str(reason)) from reason
    for driver in NODE.glob("*.mjs"):
        shutil.copy(driver, modules.parent)
    return node, modules.parent
