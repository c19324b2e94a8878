"""The trainer on a tiny Llama on the CPU: full fine-tuning, stopped trainings, the guarded process and its accidents."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from services.trainer import publishing, tasks
from services.trainer.settings import trainer_settings
from services.trainer.train import sft
from services.trainer.train.dpo import dpo
from shared.artifacts.folders import hash_folder
from shared.artifacts.store import Artifacts
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.phase_records import HeldOut
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import (
    Method,
    ModelRef,
    SearchParams,
    StepKind,
    TrainParams,
    content_hash,
)
from shared.jobs.step_store import Claim
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext
from tests.fakes.training import EXAMPLES, PAIRS, WORDS, Ticks, spec_of, train_params

pytestmark = pytest.mark.usefixtures("one_thread")


def full_params(**changes) -> TrainParams:
    return train_params(**({"learning_rate": 3e-3} | changes)).model_copy(update={"method": Method.FULL})


@pytest.fixture(scope="module")
def fully_tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    spec = spec_of(StepKind.SFT, full_params(), EXAMPLES, base, tmp_path_factory.mktemp("full"))
    return sft.fine_tune(spec, Ticks()), spec.output / "weights"


def test_full_fine_tuning_changes_all_weights_and_leaves_a_whole_model(base: Path, fully_tuned):
    figures, folder = fully_tuned
    assert figures["loss"] < figures["loss_first"] - 0.5
    assert {p.name for p in folder.iterdir()} == {p.name for p in base.iterdir()}
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()


def test_full_preference_is_anchored_at_the_incoming_model_without_a_second_one(fully_tuned, tmp_path: Path):
    incoming = fully_tuned[1]
    spec = spec_of(StepKind.DPO, full_params(learning_rate=1e-3), PAIRS, incoming, tmp_path)
    figures = dpo(spec, Ticks())
    assert abs(figures["margin_first"]) < 1e-4  # scored before the first step, in other batches than the training's
    assert figures["margin"] > 0.5
    assert figures["reward_accuracy"] > 0.9
    before, after = (load_file(f / "model.safetensors") for f in (incoming, spec.output / "weights"))
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_held_out_pairs_are_measured_before_and_after_and_not_trained_on(base: Path, tmp_path: Path):
    """The student learns to prefer what it was shown; of unseen pairs of the same kind it prefers more than before."""
    aside = [{**pair, "held_out": True} for pair in PAIRS[:2]]
    params = train_params(learning_rate=5e-3, epochs=2)
    figures = dpo(spec_of(StepKind.DPO, params, [*aside, *PAIRS[2:]], base, tmp_path / "a"), Ticks())
    alone = dpo(spec_of(StepKind.DPO, params, PAIRS[2:], base, tmp_path / "b"), Ticks())
    assert (figures["rows"], figures["dropped_too_long"]) == (6, 0)
    assert hash_folder(tmp_path / "a/output/adapter") == hash_folder(tmp_path / "b/output/adapter")
    seen = HeldOut(**figures["held_out"])
    assert seen.pairs == 2
    assert seen.margin > seen.margin_first
    assert max(seen.chosen_first, seen.chosen) < 0
    assert {seen.preferred_first, seen.preferred} <= {0.0, 0.5, 1.0}
    assert "held_out" not in alone


@pytest.mark.parametrize("method", Method)
def test_a_pairs_loss_counts_as_much_as_it_weighs(base: Path, tmp_path: Path, method: Method):
    """The first step's loss is the mean of weight times loss, though weighted pairs come one by one."""
    params = train_params(learning_rate=1e-6, epochs=1, batch_size=8).model_copy(update={"method": method})
    losses = {}
    for name, weights in {"all": [1.0] * 8, "half": [0.5] * 8, "first": [1.0] + [1e-6] * 7}.items():
        pairs = [pair | {"weight": weight} for pair, weight in zip(PAIRS, weights, strict=True)]
        figures = dpo(spec_of(StepKind.DPO, params, pairs, base, tmp_path / name), Ticks())
        assert figures["steps"] == 1
        losses[name] = figures["loss_first"]
    assert losses["half"] == pytest.approx(losses["all"] / 2, rel=0.02)
    assert 0 < losses["first"] < losses["all"] / 4


@pytest.fixture
def context(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step's context as the queue would make it, and the trainer's settings for the tiny student."""
    monkeypatch.setenv("METEOR_STUDENT_PATH", str(base))
    monkeypatch.setenv("METEOR_STUDENT_MODEL", "tiny")
    monkeypatch.setenv("METEOR_TRAINER_CHECKPOINT_STEPS", "2")
    monkeypatch.setenv("METEOR_TRAINER_THREADS", "1")
    trainer_settings.cache_clear()
    claim = Claim("step-1", "ftjob-1", "default", "distill/train", StepKind.SFT, "0" * 64, 1)
    settings = PlatformSettings(data=tmp_path / "data")
    yield StepContext(claim, settings, Artifacts(settings.artifacts))
    trainer_settings.cache_clear()


def family() -> list[psutil.Process]:
    """The training processes and their guards; the test run has other children too, its servers."""
    return [p for p in psutil.Process().children(recursive=True) if "services.trainer.train" in command_line(p)]


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


async def until_checkpoint(context: StepContext, task: asyncio.Task) -> None:
    while not list((context.scratch / "checkpoints").glob("checkpoint-*/trainer_state.json")):
        assert not task.done(), task.result()
        await asyncio.sleep(0.02)


async def test_a_killed_training_resumes_and_ends_in_the_same_adapter(context: StepContext, base: Path, tmp_path: Path):
    params = train_params(epochs=15)
    request = step_request(StepKind.SFT, params, EXAMPLES)
    task = asyncio.create_task(tasks.sft(request, context))
    await until_checkpoint(context, task)
    (child,) = [p for p in family() if p.cmdline()[1:3] == ["-m", "services.trainer.train"]]
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(TransientError) as error:
        await task
    assert error.value.code == "training_process_lost"
    assert not family()

    result = await tasks.sft(request, context)
    assert result.metrics["resumed_from_step"] > 0
    assert [point.step for point in result.curve] == list(range(1, result.metrics["steps"] + 1))
    assert result.metrics["steps"] == 30
    assert context.latest is not None
    assert context.latest.done == context.latest.total == 30
    assert context.latest.metrics["tokens_per_second"] > 0
    again = await tasks.sft(request, context)  # as after a kill between publishing and the row
    assert again.adapter == result.adapter
    assert again.metrics["resumed_from_step"] >= result.metrics["resumed_from_step"]
    uninterrupted = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path / "whole")
    sft.fine_tune(uninterrupted, Ticks())
    assert result.adapter == hash_folder(uninterrupted.output / "adapter")
    assert result.adapter is not None
    served = context.settings.serving / result.adapter / publishing.CONFIG
    assert json.loads(served.read_text())["base_model_name_or_path"] == str(base)


class Stop(Ticks):
    """Ends a training at an optimiser step, as a kill does."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        if done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [StepKind.SFT, StepKind.DPO])
def test_a_training_stopped_within_an_epoch_goes_on_as_if_it_had_not_been(kind: StepKind, base: Path, tmp_path: Path):
    """Ten steps of two epochs; stopped at the eighth with a checkpoint of the seventh. The weights end the same."""
    if kind is StepKind.SFT:
        work, field = sft.fine_tune, "completion"
        rows = [
            {"id": f"{n}", "question": f"What is {n}?", "completion": " ".join(WORDS[: n % 7 + 1])} for n in range(20)
        ]
    else:
        work, field = dpo, "chosen"
        rows = [{"id": f"{n}", "question": f"What is {n}?", "chosen": " ".join(WORDS[: n % 7 + 1]), "rejected": "no"}
                for n in range(20)]  # fmt: skip
    assert len({row[field] for row in rows}) == 7
    params = train_params(epochs=2)
    whole = spec_of(kind, params, rows, base, tmp_path / "whole")
    straight = work(whole, Ticks())
    cut = spec_of(kind, params, rows, base, tmp_path / "cut").model_copy(update={"checkpoint_steps": 7})
    with pytest.raises(KeyboardInterrupt):
        work(cut, Stop(at=8))
    resumed = work(cut, Ticks())
    assert (straight["resumed_from_step"], resumed["resumed_from_step"], resumed["steps"]) == (0, 7, 10)
    assert resumed["trained_tokens"] == straight["trained_tokens"]
    assert hash_folder(cut.output / "adapter") == hash_folder(whole.output / "adapter")


async def test_a_killed_full_preference_training_keeps_its_reference(context: StepContext, fully_tuned, tmp_path: Path):
    """It goes on from its checkpoint and ends in the same weights; were the checkpoint the reference, it could not."""
    digest = context.artifacts.put_folder(fully_tuned[1])
    params = full_params(weights=digest, learning_rate=1e-3, epochs=6)
    request = step_request(StepKind.DPO, params, PAIRS)
    task = asyncio.create_task(tasks.dpo(request, context))
    await until_checkpoint(context, task)
    (child,) = [p for p in family() if p.cmdline()[1:3] == ["-m", "services.trainer.train"]]
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(TransientError):
        await task

    result = await tasks.dpo(request, context)
    assert result.metrics["resumed_from_step"] > 0
    assert result.adapter is None
    assert result.weights is not None
    uninterrupted = spec_of(StepKind.DPO, params, PAIRS, fully_tuned[1], tmp_path / "whole")
    dpo(uninterrupted, Ticks())
    assert result.weights == hash_folder(uninterrupted.output / "weights")
    assert hash_folder(context.settings.serving / result.weights) == result.weights


async def test_a_cancelled_training_is_gone_within_five_seconds(context: StepContext):
    task = asyncio.create_task(tasks.sft(step_request(StepKind.SFT, train_params(epochs=100), EXAMPLES), context))
    await until_checkpoint(context, task)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 5
    assert not family()


def search_params(max_new_tokens: int, beam_width: int = 2, batch_size: int = 4) -> SearchParams:
    model = ModelRef(base="tiny", base_hash=content_hash("tiny"))
    return SearchParams(model=model, beam_width=beam_width, max_new_tokens=max_new_tokens, batch_size=batch_size)


async def test_a_search_returns_rows_in_order_and_the_same_again(context: StepContext):
    questions = [{"id": str(n), "question": f"What is {word}?"} for n, word in enumerate(WORDS)]
    result = await tasks.search(step_request(StepKind.SEARCH, search_params(4), questions), context)
    assert [row["id"] for row in result.rows] == [row["id"] for row in questions]
    assert all({"question", "chosen", "rejected"} <= row.keys() for row in result.rows)
    assert result.adapter is None
    assert context.latest is not None
    assert context.latest.done == len(WORDS)
    assert (await tasks.search(step_request(StepKind.SEARCH, search_params(4), questions), context)).rows == result.rows


async def test_the_users_error_comes_back_as_such(context: StepContext):
    request = step_request(StepKind.SEARCH, search_params(508), [{"id": "a", "question": "q"}])
    with pytest.raises(UserError) as error:
        await tasks.search(request, context)
    assert error.value.code == "rows_too_long"
    assert error.value.param == "distillation.answer_tokens"


async def test_what_needs_more_memory_than_it_may_take_says_so(context: StepContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_TRAINER_MEMORY_GB", "0.1")
    trainer_settings.cache_clear()
    questions = [{"id": str(n), "question": f"What is {n}?"} for n in range(40)]
    params = search_params(256, beam_width=64, batch_size=40)
    with pytest.raises(FatalError) as error:
        await tasks.search(step_request(StepKind.SEARCH, params, questions), context)
    assert error.value.code == "out_of_memory"
    assert "METEOR_TRAINER_MEMORY_GB" in error.value.message
    assert not family()
