"""Two processes that train one model together, under the guard, learn what one learns; and which devices a step is given."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.trainer import supervisor
from services.trainer.settings import TrainerSettings
from services.trainer.spec import Failed, Spec
from services.trainer.train import sft, sharding
from services.trainer.train.dpo import dpo
from services.trainer.train.model import load_base
from shared.contracts.adapter_check import FILE, AdapterLogprobs
from shared.contracts.errors import FatalError
from shared.contracts.steps import StepKind
from tests.fakes.trained_together import STOPPED_AT
from tests.fakes.training import EXAMPLES, PAIRS, Ticks, spec_of, train_params
from tests.fakes.zoo import make

pytestmark = pytest.mark.usefixtures("one_thread")
PROCESS, TOGETHER = "services.trainer.train", "tests.fakes.trained_together"


ROWS = {StepKind.SFT: EXAMPLES, StepKind.DPO: PAIRS}


def spec_for(kind: StepKind, base: Path, folder: Path, **changes: Any) -> Spec:
    """Seven rows in steps of three: the last step has one row, and so one process without any; rows weigh differently."""
    rows = [
        dict(row, question=f"What is{' the' * (number % 4)} {number}?", weight=0.5 + 0.5 * (number % 2))
        for number, row in enumerate(ROWS[kind][:7])
    ]
    params = train_params(epochs=2, batch_size=3, learning_rate=1e-3)
    return spec_of(kind, params, rows, base, folder).model_copy(update={"threads": 1, **changes})


def adapter_of(spec: Spec) -> dict[str, torch.Tensor]:
    return load_file(spec.output / "adapter" / "adapter_model.safetensors")


def assert_learned_the_same(spec: Spec, figures: dict[str, Any], alone: Spec, wanted: dict[str, Any]) -> None:
    for name in ("steps", "trained_tokens", "rows", "loss_first", "loss"):
        assert figures[name] == pytest.approx(wanted[name], abs=2e-4), name
    one, other = adapter_of(alone), adapter_of(spec)
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-4
    curves = [json.loads((each.output / "curve.json").read_text()) for each in (alone, spec)]
    for ours, theirs in zip(*curves, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-4)
    logprobs = [
        AdapterLogprobs.model_validate_json((each.output / "adapter" / FILE).read_text()) for each in (alone, spec)
    ]
    for ours, theirs in zip(*(each.rows for each in logprobs), strict=True):
        assert ours.adapter == pytest.approx(theirs.adapter, abs=5e-3)


async def test_two_processes_learn_what_one_learns(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a copy of the base each, where one of them runs out of memory; and with half of it each, where the training is interrupted
    once. All of them in one start of torchrun, which takes longer than the trainings."""
    copies = spec_for(StepKind.SFT, base, tmp_path / "copies", processes=2, checkpoint_steps=2)
    parts = {kind: spec_for(kind, base, tmp_path / kind, processes=2, checkpoint_steps=1, fsdp=True) for kind in ROWS}
    others = []
    for kind, spec in parts.items():
        others.append(tmp_path / f"{kind}.json")
        others[-1].write_text(spec.model_dump_json())
    of_trainer = supervisor.command

    def command(spec: Spec, path: Path) -> list[str]:
        whole = [TOGETHER if word == PROCESS else word for word in of_trainer(spec, path)]
        assert TOGETHER in whole
        return [*whole, *map(str, others)]

    monkeypatch.setattr(supervisor, "command", command)
    told: list[tuple[int, int]] = []
    done = await supervisor.run(copies, tmp_path / "log", lambda done, total, **_: told.append((done, total)), 3.0)
    alone = {kind: spec_for(kind, base, tmp_path / f"alone-{kind}") for kind in ROWS}
    wanted = {StepKind.SFT: sft.fine_tune(alone[StepKind.SFT], Ticks())}
    wanted[StepKind.DPO] = dpo(alone[StepKind.DPO], Ticks())
    assert (done.metrics["processes"], done.metrics["rows_at_once"]) == (2, 1)
    assert told[-1] == (6, 6)
    assert_learned_the_same(copies, done.metrics, alone[StepKind.SFT], wanted[StepKind.SFT])
    assert list(copies.checkpoints.glob("checkpoint-*/trainer_state.json"))
    for kind, spec in parts.items():
        written = spec.output / "figures.json"
        assert written.exists(), (tmp_path / "log").read_text()[-3000:]
        figures = json.loads(written.read_text())
        assert figures["fsdp"] is True
        assert figures["gradient_checkpointing"] is True
        assert figures["resumed_from_step"] == STOPPED_AT - 1
        assert_learned_the_same(spec, figures, alone[kind], wanted[kind])


@pytest.mark.parametrize(("family", "why"), [("falcon-h1", "mup_vector"), ("llama", "no FSDP plan")])
def test_a_base_that_was_not_divided_well_is_refused(family: str, why: str, tmp_path: Path):
    """llama: loaded whole, as a base is whose layers have no plan."""
    with pytest.raises(FatalError, match=why) as error:
        sharding._check(load_base(make(family, tmp_path / "model")))
    assert error.value.code == "not_shardable"


async def test_the_first_process_to_fail_says_why():
    """The others fail because it is gone."""
    reader = asyncio.StreamReader()
    for code, message in (("nan_loss", "the loss became nan"), ("training_failed", "Connection closed by peer")):
        reader.feed_data(Failed(family="fatal", code=code, message=message).model_dump_json().encode() + b"\n")
    reader.feed_eof()
    last = await supervisor._follow(reader, lambda *_, **__: None)
    assert isinstance(last, Failed)
    assert last.code == "nan_loss"


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
