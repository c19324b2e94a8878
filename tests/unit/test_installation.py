"""What an installation tells a newcomer whose machine lacks something, and which Python it takes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
# A Python is asked for its version first and then for its modules.
GOOD = "exit 0"
OTHER_VERSION = 'case "$2" in *version_info*) exit 3;; esac; exit 0'
WITHOUT_VENV = 'case "$2" in *ensurepip*) exit 1;; esac; exit 0'
BROKEN = "exit 127"  # as the shim of a version manager that has none


def chosen_python(
    tmp_path: Path, pythons: dict[str, str], *versions: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """python.sh on a machine that has just these programs."""
    for tool in ("bash", "basename"):
        path = shutil.which(tool)
        assert path is not None
        (tmp_path / tool).symlink_to(path)
    for name, body in pythons.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!{tmp_path}/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path / "pyenv")} | more
    command = [str(tmp_path / "bash"), str(REQUIREMENTS / "python.sh"), *versions]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("pythons", "versions", "taken"),
    [
        ({"python3.11": GOOD, "python3.13": GOOD}, (), "python3.11"),
        ({"python3.13": GOOD, "python3": OTHER_VERSION}, (), "python3.13"),
        ({"python3": GOOD}, (), "python3"),
        ({"python3.11": BROKEN, "python3.12": GOOD}, (), "python3.12"),
        ({"python3.11": WITHOUT_VENV, "python3.13": GOOD}, (), "python3.13"),
        ({"python3.11": GOOD, "python3.13": GOOD}, ("3.13",), "python3.13"),
        (
            {"python3.13": BROKEN, "pyenv/versions/3.13.0/bin/python3.13": GOOD},
            (),
            "pyenv/versions/3.13.0/bin/python3.13",
        ),
    ],
)
def test_the_first_python_that_works_is_taken(
    tmp_path: Path, pythons: dict[str, str], versions: tuple[str, ...], taken: str
):
    done = chosen_python(tmp_path, pythons, *versions)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / taken)), done.stderr


@pytest.mark.parametrize(
    ("pythons", "more", "says"),
    [
        ({}, {}, "none was found that works"),
        ({"python3": OTHER_VERSION}, {}, "apt-get install python3 python3-venv"),
        ({"python3.12": WITHOUT_VENV}, {}, "apt-get install python3.12-venv"),
        ({"python3.12": GOOD}, {"PYTHON": "python3.9"}, "PYTHON=python3.9 is none that works"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(
    tmp_path: Path, pythons: dict[str, str], more: dict[str, str], says: str
):
    done = chosen_python(tmp_path, pythons, **more)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "3.11 3.12 3.13" in done.stderr


def test_too_little_room_on_the_disk_is_said_before_anything_is_installed(tmp_path: Path):
    def room(gigabytes: int) -> subprocess.CompletedProcess[str]:
        command = [str(REQUIREMENTS / "room.sh"), str(tmp_path), str(gigabytes)]
        return subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=60)

    assert room(0).returncode == 0
    refused = room(10_000_000)
    assert refused.returncode == 1
    assert "the installation takes about 10000000 GB" in refused.stderr


def planned(tmp_path: Path, target: str, uv: bool, *more: str) -> list[str]:
    """The commands that make would run, on a machine with uv or without."""
    (tmp_path / "uv").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "uv").chmod(0o755)
    search = f"{tmp_path}:{os.environ['PATH']}" if uv else os.environ["PATH"]
    without = [] if uv else ["UV="]
    command = ["make", "--dry-run", "--always-make", target, f"VENV={tmp_path / 'venv'}", "ENGINE=cpu", *without, *more]
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV", "MAKEFLAGS")}
    done = subprocess.run(
        command, cwd=REQUIREMENTS.parent, env=environment | {"PATH": search}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


LOCKED = ["torch", "services", "trainer", "engine-cpu", "dev"]


@pytest.mark.parametrize("uv", [True, False])
def test_uv_makes_the_environment_and_installs_the_locks_where_it_is_there(tmp_path: Path, uv: bool):
    lines = planned(tmp_path, "install-dev", uv)
    venv = tmp_path / "venv"
    made = f'{tmp_path}/uv venv --quiet --seed --python "$python" {venv}' if uv else f'"$python" -m venv {venv}'
    assert sum(made in line for line in lines) == 1
    installs = f"{tmp_path}/uv pip install --python {venv}/bin/python" if uv else f"{venv}/bin/python -m pip install"
    for name in LOCKED:
        (line,) = (line for line in lines if f"-r requirements/{name}.lock" in line)
        assert installs in line
        assert "--no-deps" in line, "a lock is all that is installed"
    assert any("--editable ." in line and installs in line for line in lines)
    assert uv is not any("-m pip install" in line for line in lines)


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_tests_of_another_python_have_an_environment_of_their_own_without_torch(tmp_path: Path, version: str):
    text = "\n".join(planned(tmp_path, "test-python", True, f"OTHER={version}"))
    assert f"requirements/python.sh {version}" in text
    assert f"meteor/python-{version}-" in text
    assert "requirements/services.lock -r requirements/dev.lock" in text
    assert not any(f"requirements/{name}.lock" in text for name in ("torch", "trainer", "engine-cpu"))
