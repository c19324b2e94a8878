"""The same routes with the stock client of npm: it is installed where there are Node, npm and a registry that answers."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.fakes.npm import NoNode, node_modules

HERE = Path(__file__).parent / "node"


def test_the_client_of_npm_drives_the_system(api: RunningApi, tmp_path: Path):
    try:
        node, modules = node_modules(HERE)
    except NoNode as reason:
        pytest.skip(str(reason))
    shutil.copy(HERE / "drive.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    data = tmp_path / "rows.jsonl"
    data.write_bytes(rows(60, start=5000))
    environment = {
        "PATH": os.environ["PATH"],
        "OPENAI_BASE_URL": f"{api.url}/v1",
        "OPENAI_API_KEY": KEY,
        "METEOR_BASE": BASE,
        "METEOR_ROWS": str(data),
    }
    done = subprocess.run([node, tmp_path / "drive.mjs"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["jobs"], report["chat"]) == (2, "Hello é")
    assert report["models"] >= 1
