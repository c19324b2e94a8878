"""What a host keeps of a step goes when the step has ended, wherever that was."""

from pathlib import Path

from shared.jobs.schema import Stores
from shared.queue.scratch import clear_ended
from tests.fakes.store_moves import claimed, step_of


def test_folders_of_ended_steps_go_and_the_others_stay(stores: Stores, job, tmp_path: Path):
    scratch = tmp_path / "scratch"
    ended = claimed(stores, job, "distill/teach/0")
    assert stores.steps.finish(ended, "f" * 64, {})
    waiting = step_of(stores, job, "distill/teach/1", "b" * 64)
    for name in (ended.step_id, waiting.id, "of-another-system"):
        (scratch / name / "checkpoints").mkdir(parents=True)
    assert clear_ended(scratch, stores.steps) == [ended.step_id]
    assert {folder.name for folder in scratch.iterdir()} == {waiting.id, "of-another-system"}
    assert clear_ended(tmp_path / "missing", stores.steps) == []
