"""Removes folders that this host kept for a step's next attempt, once the step has ended: another host may have made that attempt."""

import shutil
from pathlib import Path

from shared.jobs.states import FINAL_STEPS
from shared.jobs.step_store import StepStore


def clear_ended(scratch: Path, steps: StepStore) -> list[str]:
    """Remove the folders of steps that have ended; returns their names. A step that nobody knows keeps its folder."""
    if not scratch.is_dir() or not (names := sorted(folder.name for folder in scratch.iterdir())):
        return []
    ended = [name for name, step in steps.states(names).items() if step.state in FINAL_STEPS]
    for name in ended:
        shutil.rmtree(scratch / name, ignore_errors=True)
    return ended
