"""How an optimiser step is divided, how much a GPU is found to take, and when a checkpoint is due."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl

from services.trainer.spec import Spec
from services.trainer.train import passes, room, watch
from services.trainer.train.passes import ByRows, ByTokens, Division, Pass
from services.trainer.train.step_in_passes import micro_batch
from shared.contracts.steps import StepKind

GB = 10**9


def test_rows_at_once_divide_the_batch_and_stay_within_the_tokens():
    assert micro_batch(8, 100, 4096) == 8
    assert micro_batch(8, 1000, 4096) == 4
    assert micro_batch(7, 1000, 4096) == 1
    assert micro_batch(8, 9000, 4096) == 1


@pytest.mark.parametrize("division", [ByRows(4), ByRows(3), ByTokens(30, 12), ByTokens(1000, 12)])
def test_every_row_is_in_one_pass_whose_share_is_what_its_rows_have(division: Division):
    lengths = [3, 12, 5, 5, 9, 1, 7, 7, 2, 4]
    while True:
        parts = division.passes(lengths)
        assert [row for part in parts for row in range(part.start, part.stop)] == list(range(len(lengths)))
        assert sum(part.share for part in parts) == pytest.approx(1)
        if not division.halve():
            break
    assert all(part.stop - part.start == 1 for part in parts) or isinstance(division, ByTokens)
    if isinstance(division, ByTokens):
        assert all((part.stop - part.start) * max(lengths[part.start : part.stop]) <= 12 for part in parts)


def test_a_halved_pass_counts_as_much_as_its_rows_did_before():
    division = ByRows(4)
    whole = division.passes([1] * 6)  # the last and smaller pass counts as much as the first
    assert [part.share for part in whole] == [0.5, 0.5]
    assert division.halve()
    assert division.passes([1] * 6) == [Pass(0, 2, 0.25, 0, 4), Pass(2, 4, 0.25, 0, 4), Pass(4, 6, 0.5, 4, 6)]


def test_a_pass_has_its_rows_alone_and_the_padding_that_they_need():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    batch = {passes.MASK: mask, "weight": torch.tensor([1.0, 2.0, 3.0]), "ids": torch.arange(24).view(6, 4)}
    assert passes.lengths(batch, 2) == [4, 6, 8]  # both sides, each as long as the longer one
    part = passes.cut(batch, Pass(0, 2, 2 / 3, 0, 3), 2)
    assert part["ids"].tolist() == [[0, 1, 2], [4, 5, 6], [12, 13, 14], [16, 17, 18]]
    assert part["weight"].tolist() == [1.0, 2.0]


class Device:
    """A GPU of so many bytes, of which a row takes each, and a pass own besides."""

    def __init__(self, size: int, each: int, own: int = 0):
        self.size, self.each, self.own = size, each, own
        self.highest = 0
        self.ran: list[int] = []

    def attempt(self, rows: int) -> None:
        self.ran.append(rows)
        self.highest = self.own + rows * self.each
        if self.highest > self.size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    def free(self) -> int:
        return self.size

    def start(self) -> None:
        self.highest = 0

    def peak(self) -> int:
        return self.highest


@pytest.mark.parametrize(
    ("device", "reserve", "rows"),
    [
        (Device(100 * GB, GB), 0, 64),  # all of a step
        (Device(10 * GB, GB), 0, 9),  # a tenth is left free
        (Device(10 * GB, GB, own=4 * GB), 0, 5),
        (Device(10 * GB, GB), 5 * GB, 4),  # what the optimiser will take
        (Device(3 * GB, 2 * GB), 0, 1),
        (Device(GB, 2 * GB), 0, 0),
    ],
)
def test_a_device_is_filled_and_not_more(device: Device, reserve: int, rows: int):
    assert room.rows_that_fit(device.attempt, device, 64, reserve) == rows


def test_what_is_measured_wrongly_is_tried_and_halved():
    device = Device(10 * GB, GB)
    device.peak = lambda: device.ran[-1] * GB // 4
    assert room.rows_that_fit(device.attempt, device, 64, 0) == 9
    assert device.ran[-2:] == [18, 9] or device.ran[-1] <= 10


def test_any_other_error_of_a_probe_is_not_taken_for_a_lack_of_memory():
    def broken(rows: int) -> None:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        room.rows_that_fit(broken, Device(GB, 1), 8, 0)


def test_devices_that_compute_together_try_no_more_than_is_measured_and_take_what_the_least_promises():
    device = Device(10 * GB, GB)
    assert room.rows_together(device.attempt, device, 64, 0, lambda rows: rows) == 9
    assert room.rows_together(device.attempt, device, 64, 0, lambda rows: min(rows, 5)) == 5
    assert set(device.ran) == {1, 2}
    small = Device(3 * GB, 2 * GB)
    assert room.rows_together(small.attempt, small, 64, 0, lambda rows: rows) == 1
    assert set(small.ran) == {1}, "two rows may not fit, and the others would wait"
    with pytest.raises(torch.OutOfMemoryError):
        room.rows_together(Device(GB, 2 * GB).attempt, device, 64, 0, lambda rows: rows)


def test_passes_without_padding_are_filled_by_their_tokens_alone():
    batch = {passes.MASK: torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])}
    assert passes.lengths(batch, 2, padded=False) == [6, 3]
    lengths = [9, 1, 1, 1]
    assert [part[:2] for part in ByTokens(12, 9).passes(lengths)] == [(0, 1), (1, 4)]
    assert [part[:2] for part in ByTokens(12, 9, padded=False).passes(lengths)] == [(0, 4)]


@pytest.mark.parametrize(("cost", "most"), [(0.1, 61), (6.0, 32), (60.0, 4)])
def test_checkpoints_take_a_twentieth_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, cost: float, most: int
):
    """An hour of steps of a second each; a checkpoint is wanted every minute."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock.now)
    spec = Spec(
        kind=StepKind.SFT, params={}, rows=[], base=tmp_path, adapter=None, output=tmp_path, checkpoints=tmp_path
    )
    state: Any = SimpleNamespace(global_step=1, num_input_tokens_seen=0)
    nobody: Any = None
    looks: Any = watch.Watch(spec, nobody)
    looks.on_train_begin(None, state, None)
    saves, saving = 0, 0.0
    while clock.now < 3600:
        clock.now += 1
        control = TrainerControl()
        looks.on_step_end(None, state, control)
        if control.should_save:
            saves, saving = saves + 1, saving + cost
            clock.now += cost
            looks.on_save(None, state, control)
    assert 0 < saves <= most
    assert saving <= watch.SHARE * clock.now + cost
    assert saves >= 2 or cost > 30
