"""The dashboard is built anew, checked and tested where Node and its packages are at hand."""

import filecmp
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.npm import NoNode, node_modules

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "services/dashboard"
BUILT = ROOT / "services/api/features/dashboard/built"
RUN_S = 220


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources beside the packages, as in the repository, so that a build writes nothing there."""
    try:
        _, modules = node_modules(SOURCES)
    except NoNode as reason:
        pytest.skip(str(reason))
    root = tmp_path_factory.mktemp("dashboard")
    made = root / "services/dashboard"
    shutil.copytree(SOURCES, made, ignore=shutil.ignore_patterns("node_modules", "schema.d.ts"))
    shutil.copy(ROOT / "openapi.json", root)
    shutil.copytree(ROOT / "examples", root / "examples")
    (root / "services/api/features/dashboard").mkdir(parents=True)
    (made / "node_modules").symlink_to(modules)
    return made


def npm(copy: Path, *command: str) -> None:
    done = subprocess.run(
        ["npm", *command], cwd=copy, env={**os.environ, "CI": "1"}, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, f"npm {' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def test_a_new_build_is_the_one_that_is_committed(copy: Path):
    npm(copy, "run", "build")
    made = copy.parent / "api/features/dashboard/built"
    compared = filecmp.dircmp(made, BUILT), filecmp.dircmp(made / "assets", BUILT / "assets")
    for folder in compared:
        assert (folder.left_only, folder.right_only, folder.diff_files) == ([], [], []), (
            "run `npm run build` and commit"
        )


def test_types_and_templates_are_in_order(copy: Path):
    npm(copy, "run", "types")
    npm(copy, "run", "check")


def test_logic(copy: Path):
    npm(copy, "test")
