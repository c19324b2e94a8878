"""Rows against the student's context and training, and a job's budget against its estimate: how many, which, and what to do."""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.api.features.jobs import size_checks
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.training_memory import shape_of, training_gb
from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.contracts.estimate import Price, Range
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import Problem
from shared.datasets.rows import JobRows
from tests.fakes.store_moves import job_rows


class Sizes(Posted):
    """A posted job whose rows and base are given."""

    given: JobRows

    @property
    def rows(self) -> JobRows:
        return self.given

    data: Any = ()  # pyright: ignore
    lacks_references = False  # pyright: ignore[reportAssignmentType]


def posted(rows: list[Question], **distillation: Any) -> Posted:
    request = JobRequest.model_validate(
        {"model": "m", "training_file": "f", "distillation": {"domain": "d"} | distillation}
    )
    job = Sizes(None, request, {"default": Price(1, 2)})  # pyright: ignore[reportArgumentType]
    vars(job)["given"] = job_rows(Artifacts(Path(tempfile.mkdtemp())), rows)
    return job


def row(name: str, size: int) -> Question:
    return Question(id=name, question="x" * size, reference="y", split=Split.TRAIN)


ROWS = [row(f"good-{n}", 100) for n in range(7)]


@pytest.mark.parametrize(
    ("rows", "settings", "limit", "expected"),
    [
        (ROWS, {}, 512, []),
        (ROWS, {}, None, []),
        ([*ROWS, row("a", 5000), row("b", 9000)], {}, 512, [("rows_too_long", "2 of 9 rows (a, b)", False)]),
        ([*ROWS, row("a", 1200)], {}, 512, [("rows_leave_no_room", "1 of 8 rows (a)", False)]),
        ([row(f"r{n}", 9000) for n in range(8)], {}, 512, [("rows_too_long", "8 of 8 rows (r0, r1, r2, r3, r4, ...)", True)]),
        (ROWS, {"answer_tokens": 500}, 512, [("answer_tokens_too_large", "512 tokens", True)]),
        ([*ROWS, row("a", 1200)], {"adapter": {"max_length": 128}}, 2048, [("rows_longer_than_training", "1 of 8 rows", False)]),
    ],
)  # fmt: skip
def test_rows_are_counted_and_named(
    rows: list[Question], settings: dict, limit: int | None, expected: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(size_checks, "_context", lambda _: limit)
    adapter = {"adapter": {"max_length": 100_000}} | settings
    found = [one for one in size_checks.row_lengths(posted(rows, **adapter)) if isinstance(one, Problem)]
    assert [(one.code, one.is_error) for one in found] == [(code, error) for code, _, error in expected]
    for one, (_, words, _) in zip(found, expected, strict=True):
        assert words in one.message
        assert one.remedy


def test_the_shape_of_a_base_is_read_also_where_its_text_part_is_inside(tmp_path: Path):
    text = {"max_position_embeddings": 4096, "hidden_size": 64, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text, "model_type": "wrapper"}))
    assert shape_of(tmp_path) == (4096, 64, None, 2)
    assert shape_of(None) == shape_of(tmp_path / "none") == (None, None, None, None)


def test_memory_of_a_7b_is_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    """49 GB for 8 rows of 512 tokens, weights in bfloat16 included."""
    from services.api.features.jobs import training_memory as memory

    monkeypatch.setattr(memory, "folder_of", lambda _: Path("x"))
    monkeypatch.setattr(memory, "parameters_of", lambda _: 8e9)
    monkeypatch.setattr(memory, "shape_of", lambda _: memory.Shape(8192, 4096, 14336, 32))
    monkeypatch.setattr(memory, "NVIDIA", Path("/"))
    rows = [row(f"r{n}", 4 * 512) for n in range(4)]
    need = training_gb(posted(rows, adapter={"max_length": 512}))
    assert need is not None
    assert need.high == pytest.approx(48, abs=2)


@pytest.mark.parametrize(
    ("weights", "low", "high", "alone", "told"),
    [
        (20.0, 22.0, 30.0, True, ("error", "memory_too_small", "model")),
        (20.0, 22.0, 30.0, False, ("warning", "memory_too_small", "hyperparameters.batch_size")),
        (4.0, 22.0, 30.0, True, ("warning", "memory_too_small", "hyperparameters.batch_size")),
        (4.0, 5.0, 30.0, True, None),
    ],
)
@pytest.mark.parametrize("gpu", [True, False])
def test_the_weights_alone_decide_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, weights: float, low: float, high: float, alone: bool, told: Any
):
    there = {True: 16.0, False: 999.0}  # the GPU's memory counts where there is one, this machine's elsewhere
    monkeypatch.setattr(size_checks, "NVIDIA", SimpleNamespace(exists=lambda: gpu))
    monkeypatch.setattr(size_checks, "gpu_gb", lambda: there[gpu])
    memory = SimpleNamespace(total=there[not gpu] * 1e9)
    monkeypatch.setattr(size_checks, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    monkeypatch.setattr(size_checks, "training_gb", lambda posted: Range(low=low, high=high))
    monkeypatch.setattr(size_checks, "weights_gb", lambda posted: weights)
    platform, request = SimpleNamespace(is_alone=alone), SimpleNamespace(model="s")
    job: Any = SimpleNamespace(context=SimpleNamespace(platform=platform), request=request)
    (found,) = size_checks.memory(job)
    if told is None:
        assert isinstance(found, str)
    else:
        assert isinstance(found, Problem)
        assert (found.level, found.code, found.param) == told
        assert found.remedy
