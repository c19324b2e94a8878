"""Tools of others that the benches compare with. None is a dependency: each lives in an environment of its own, made by

    python -m venv FOLDER && FOLDER/bin/pip install TOOL

and a bench is given the path of that environment's python.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

Skipped = dict[str, str]


class NotInstalled(Exception):
    """A tool cannot be compared with; the text says what to do."""


def python_with(python: Path | None, module: str, option: str, install: str) -> Path:
    """The python of the environment that has the module. Raises NotInstalled."""
    remedy = f"pip install {install} into an environment of its own, and give {option} FOLDER/bin/python"
    if python is None:
        raise NotInstalled(f"{module} is not compared: {remedy}")
    if not python.exists():
        raise NotInstalled(f"{python} does not exist: {remedy}")
    said = subprocess.run([python, "-c", f"import {module}"], env=clean_environment(), capture_output=True, text=True)
    if said.returncode:
        last = said.stderr.strip().rpartition("\n")[2]
        raise NotInstalled(f"{python} cannot import {module} ({last}): {remedy}")
    return python


def version_in(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], env=clean_environment(), capture_output=True, text=True).stdout.strip()


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what leads a foreign python to our packages, and without proxies: all is on loopback."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in ours and "proxy" not in name.lower()}
    return kept | more


def or_skipped(measure: Callable[[], Any]) -> Any:
    """What was measured, or why it was not."""
    try:
        return measure()
    except NotInstalled as error:
        return Skipped(skipped=str(error))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def processes_of(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def processor_s(pid: int) -> float:
    """Seconds of processor time (user and system) of a process, its children and the children that have ended."""
    total = 0.0
    for process in processes_of(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        total += times.children_user + times.children_system
    return total


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
