"""Two processes that train one model together, under the guard, learn what one learns; and which devices a step is given."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from services.trainer import supervisor
from services.trainer.settings import TrainerSettings
from services.trainer.spec import Spec
from services.trainer.train import sft
from shared.contracts.steps import StepKind
from tests.fakes.training import EXAMPLES, Ticks, spec_of, train_params

pytestmark = pytest.mark.usefixtures("one_thread")


async def test_two_processes_learn_what_one_learns(base: Path, tmp_path: Path):
    """Seven rows in steps of three: the last step has one row, and so one process without any; rows weigh differently."""
    rows = [
        dict(row, question=f"What is{' the' * (number % 4)} {number}?", weight=0.5 + 0.5 * (number % 2))
        for number, row in enumerate(EXAMPLES[:7])
    ]
    params = train_params(epochs=2, batch_size=3, learning_rate=1e-3)
    alone = spec_of(StepKind.SFT, params, rows, base, tmp_path / "alone")
    wanted = sft.fine_tune(alone, Ticks())  # type: ignore[arg-type]
    together = spec_of(StepKind.SFT, params, rows, base, tmp_path / "together")
    together = together.model_copy(update={"processes": 2, "threads": 1, "checkpoint_steps": 2})
    told: list[tuple[int, int]] = []
    done = await supervisor.run(together, tmp_path / "log", lambda done, total, **_: told.append((done, total)), 3.0)
    assert done.metrics["processes"] == 2
    assert told[-1] == (6, 6)
    for name in ("steps", "trained_tokens", "rows", "loss_first", "loss"):
        assert done.metrics[name] == pytest.approx(wanted[name], abs=2e-4), name
    one, other = (load_file(spec.output / "adapter" / "adapter_model.safetensors") for spec in (alone, together))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-4
    curves = [json.loads((spec.output / "curve.json").read_text()) for spec in (alone, together)]
    for ours, theirs in zip(*curves, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-4)
    assert list(together.checkpoints.glob("checkpoint-*/trainer_state.json"))


@pytest.mark.parametrize(
    ("settings", "given", "kind", "processes", "visible"),
    [
        ({}, None, StepKind.SFT, 1, "0"),
        ({}, "2,3", StepKind.SFT, 1, "2"),
        ({}, "", StepKind.SFT, 1, ""),
        ({"gpus": "1"}, None, StepKind.DPO, 1, "1"),
        ({"gpus": "0,1"}, None, StepKind.DPO, 2, "0,1"),
        ({"gpus": "0,1"}, "0,1,2", StepKind.SEARCH, 1, "0"),
        ({"processes": 2}, None, StepKind.SFT, 2, "0,1"),
        ({"processes": 2}, "GPU-a,GPU-b,GPU-c", StepKind.SFT, 2, "GPU-a,GPU-b"),
    ],
)
def test_a_step_sees_as_many_gpus_as_it_has_processes(
    settings: dict[str, Any],
    given: str | None,
    kind: StepKind,
    processes: int,
    visible: str,
    base: Path,
    tmp_path: Path,
):
    own = TrainerSettings(**settings)
    assert supervisor.processes(kind, own) == processes
    spec: Spec = spec_of(kind, train_params(), EXAMPLES, base, tmp_path).model_copy(update={"processes": processes})
    assert supervisor.visible_gpus(spec, own, given) == visible
    launched = "torch.distributed.run" in supervisor.command(spec, tmp_path / "spec.json")
    assert launched is (processes > 1)


def test_gpus_are_named_by_number():
    with pytest.raises(ValueError, match="gpus"):
        TrainerSettings(gpus="first")
