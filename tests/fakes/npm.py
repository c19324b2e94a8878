"""Packages of npm for a test, installed once per lockfile into the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

OLDEST_NODE = 20
INSTALL_S = 120
QUIET = (
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-timeout=20000",
)


class NoNode(Exception):
    """Why no script of Node can be run here."""


def node_modules(folder: Path) -> tuple[str, Path]:
    """(node, node_modules) for the package.json and its lockfile in `folder`, which stays as it is. Raises NoNode."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NoNode(f"no {'npm' if node else 'node'} on this machine: install Node {OLDEST_NODE} or later")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
    if int(version.lstrip("v").partition(".")[0] or 0) < OLDEST_NODE:
        raise NoNode(f"node is {version}, and {OLDEST_NODE} or later is wanted")
    lock = (folder / "package-lock.json").read_bytes()
    kept = user_cache_path("meteor") / "npm" / hashlib.sha256(lock).hexdigest()[:16]
    if not kept.exists():
        _install(npm, folder, kept)
    return node, kept / "node_modules"


def _install(npm: str, folder: Path, target: Path) -> None:
    """Whole or not at all, also where two do it at once. Raises NoNode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".install-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, made)
        try:
            done = subprocess.run([npm, "ci", *QUIET], cwd=made, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired as error:
            raise NoNode(f"`npm ci` took longer than {INSTALL_S} s") from error
        if done.returncode:
            raise NoNode(f"`npm ci` failed: {' '.join(done.stderr.split())[:300]}")
        try:
            os.rename(made, target)
        except OSError:
            if not target.exists():  # another one was quicker
                raise
