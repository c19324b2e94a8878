"""The guard takes its whole family along: grandchildren in sessions of their own included."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.platform import process_guard
from tests.fakes.ports import wait_until

# A child that starts a grandchild in a new session, as vLLM does, and writes both process ids down.
FAMILY = """
import os, signal, subprocess, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen(["sleep", "600"], start_new_session=True)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {grandchild.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
if sys.argv[2] == "leave":
    sys.exit(3)
time.sleep(600)
"""


class Family:
    def __init__(self, notes: Path, mood: str = "calm"):
        argv = process_guard.command([sys.executable, "-c", FAMILY, str(notes), mood])
        self.guard = subprocess.Popen(argv, stdin=subprocess.PIPE)
        wait_until(notes.exists, 20, "the family")
        self.members = [int(pid) for pid in notes.read_text().split()]

    def wait_for_end(self, timeout_s: float = 15) -> None:
        wait_until(lambda: not any(_runs(pid) for pid in self.members), timeout_s, "the family's end")


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path / "pids")
    yield family
    family.guard.kill()
    family.guard.wait()


def test_it_ends_the_family_when_the_pipe_closes(family: Family):
    assert family.guard.stdin is not None
    family.guard.stdin.close()
    family.wait_for_end()
    assert family.guard.wait(5) == 128 + signal.SIGTERM


def test_it_ends_the_family_on_sigterm(family: Family):
    family.guard.terminate()
    family.wait_for_end()
    assert family.guard.wait(5) == 128 + signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path):
    family = Family(tmp_path / "pids", "stubborn")
    assert family.guard.stdin is not None
    family.guard.stdin.close()
    family.wait_for_end()
    assert family.guard.wait(5) == 128 + signal.SIGKILL


def test_what_a_finished_child_left_behind_is_ended(tmp_path: Path):
    family = Family(tmp_path / "pids", "leave")
    assert family.guard.wait(15) == 3
    family.wait_for_end(1)


def test_it_ends_the_family_when_its_own_parent_is_killed(tmp_path: Path):
    code = f"""
import subprocess, sys, time
from shared.platform import process_guard
child = subprocess.Popen(process_guard.command([sys.executable, "-c", {FAMILY!r}, sys.argv[1], "calm"]), stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(600)
"""
    notes = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, "-c", code, str(notes)], stdout=subprocess.PIPE, text=True)
    wait_until(notes.exists, 20, "the family")
    assert parent.stdout is not None
    members = [int(parent.stdout.readline()), *(int(pid) for pid in notes.read_text().split())]
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(_runs(pid) for pid in members), 15, "the end of guard and family")


def _runs(pid: int) -> bool:
    """An orphan's new parent may take its time to bury it, so a zombie does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_is_passed_on(script: str, code: int):
    child = subprocess.Popen(process_guard.command(["sh", "-c", script]), stdin=subprocess.PIPE)
    assert child.wait(15) == code


def test_orphans_that_ended_do_not_pile_up_as_zombies():
    script = "for i in 1 2 3 4 5; do (sleep 0.1 & ) ; done; sleep 600"
    child = subprocess.Popen(process_guard.command(["sh", "-c", script]), stdin=subprocess.PIPE)
    try:
        guarded = psutil.Process(child.pid)
        wait_until(lambda: len(guarded.children()) > 1, 15, "the orphans' adoption")
        wait_until(lambda: len(guarded.children()) == 1, 10, "the orphans' burial")
    finally:
        child.terminate()
        child.wait(15)


def test_ctrl_c_reaches_the_child_through_the_guard_alone(family: Family):
    assert os.getpgid(family.members[0]) != os.getpgid(family.guard.pid)
