"""The same routes with the stock client of npm, where Node and the package are there."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.conftest import BASE, KEY, RunningApi, rows

HERE = Path(__file__).parent / "node"
INSTALL = f"npm ci --prefix {HERE.relative_to(Path(__file__).parents[2])}"


def test_the_client_of_npm_drives_the_system(api: RunningApi, tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip(f"no node on this machine: install Node 20 or later, then `{INSTALL}`")
    if not (HERE / "node_modules" / "openai").is_dir():
        pytest.skip(f"the openai package of npm is not installed: `{INSTALL}`")
    data = tmp_path / "rows.jsonl"
    data.write_bytes(rows(60, start=5000))
    environment = {
        "PATH": os.environ["PATH"],
        "OPENAI_BASE_URL": f"{api.url}/v1",
        "OPENAI_API_KEY": KEY,
        "METEOR_BASE": BASE,
        "METEOR_ROWS": str(data),
    }
    done = subprocess.run([node, HERE / "drive.mjs"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["jobs"], found["chat"]) == (2, "Hello é")
    assert found["models"] >= 1
