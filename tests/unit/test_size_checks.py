"""Rows against the student's context and training, and a job's budget against its estimate: how many, which, and what to do."""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.api.features.jobs import size_checks, training_memory
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.training_memory import shape_of, training_gb
from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.contracts.device import DeviceSharing
from shared.contracts.distillation import Budget
from shared.contracts.estimate import Price, Range
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import Problem
from shared.datasets.rows import JobRows
from shared.ledger.accounts import EVERY_PROJECT, Limits
from shared.ledger.store import CallOrigin, Cost, open_ledger
from tests.fakes.store_moves import job_rows


class Sizes(Posted):
    """A posted job whose rows and base are given."""

    given: JobRows

    @property
    def rows(self) -> JobRows:
        return self.given

    data: Any = ()
    lacks_references = False


def posted(rows: list[Question], **distillation: Any) -> Posted:
    request = JobRequest.model_validate(
        {"model": "m", "training_file": "f", "distillation": {"domain": "d"} | distillation}
    )
    nowhere: Any = None
    job = Sizes(nowhere, request, {"default": Price(1, 2)})
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
    problems = [one for one in size_checks.row_lengths(posted(rows, **adapter)) if isinstance(one, Problem)]
    assert [(one.code, one.is_error) for one in problems] == [(code, error) for code, _, error in expected]
    for one, (_, words, _) in zip(problems, expected, strict=True):
        assert words in one.message
        assert one.remedy


def test_the_shape_of_a_base_is_read_also_where_its_text_part_is_inside(tmp_path: Path):
    text = {"max_position_embeddings": 4096, "hidden_size": 64, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text, "model_type": "wrapper"}))
    assert shape_of(tmp_path) == (4096, 64, None, 2)
    assert shape_of(None) == shape_of(tmp_path / "none") == (None, None, None, None)


CONFIG = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
CONFIG |= {"num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False}


@pytest.fixture
def of_8b(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The student is an 8B, and this machine has a GPU."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(training_memory, "folder_of", lambda _: tmp_path)
    monkeypatch.setattr(training_memory, "parameters_of", lambda _: 8.03e9)
    monkeypatch.setattr(training_memory, "NVIDIA", Path("/"))
    return monkeypatch


def test_memory_of_an_8b_is_a_row_at_least_and_a_busy_device_at_ease(of_8b: pytest.MonkeyPatch):
    need = training_gb(posted([row(f"r{n}", 4 * 512) for n in range(4)], adapter={"max_length": 512}))
    assert need is not None
    assert need.low == pytest.approx(18.3, abs=1)
    assert need.high == pytest.approx(26.5, abs=1.5)


@pytest.mark.parametrize(
    ("gpu", "share", "adapter", "alone", "told"),
    [
        (80, 0.45, {}, True, None),
        (24, 0.45, {}, True, ("warning", "set distillation.adapter.load_in_4bit to true")),
        (12, 0.1, {}, True, ("error", "set distillation.adapter.load_in_4bit to true")),
        (12, 0.1, {}, False, ("warning", "set distillation.adapter.load_in_4bit to true")),
        (80, 0.1, {"method": "full"}, True, ("error", "set distillation.adapter.dtype to bfloat16 and optim to adamw_8bit")),
        (6, 0.45, {}, True, ("error", "take a smaller student, or let a trainer with a larger device serve the queue")),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_refused_and_what_may_not_is_told_with_what_to_change(
    of_8b: pytest.MonkeyPatch,
    gpu: int,
    share: float,
    adapter: dict[str, Any],
    alone: bool,
    told: tuple[str, str] | None,
):
    of_8b.setattr(training_memory, "gpu_gb", lambda: float(gpu))
    job: Any = posted([row(f"r{n}", 4 * 512) for n in range(4)], adapter=adapter)
    vars(job)["context"] = SimpleNamespace(
        swaps=True,
        settings=SimpleNamespace(engine_gpu_share=share, trainer_gpus=""),
        platform=SimpleNamespace(is_alone=alone, device_sharing=DeviceSharing.MEMORY),
    )
    (verdict,) = size_checks.memory(job)
    if told is None:
        assert isinstance(verdict, str)
        return
    assert isinstance(verdict, Problem)
    assert (verdict.level, verdict.remedy) == told
    assert verdict.code == "memory_too_small"
    fitted = training_memory.fit(job)
    assert fitted is not None
    assert (fitted.fits, fitted.remedy) == (False, verdict.remedy)
    assert fitted.engine_gb == pytest.approx(gpu * share)


def test_what_fits_on_several_gpus_in_parts_is_not_refused(of_8b: pytest.MonkeyPatch):
    of_8b.setattr(training_memory, "_gpus", lambda: (12.0, 12.0, 12.0))
    job: Any = posted([row(f"r{n}", 4 * 512) for n in range(4)])
    platform = SimpleNamespace(is_alone=True, device_sharing=DeviceSharing.MEMORY)
    settings = SimpleNamespace(engine_gpu_share=0.1, trainer_gpus="")
    vars(job)["context"] = SimpleNamespace(swaps=True, settings=settings, platform=platform)
    (verdict,) = size_checks.memory(job)
    assert isinstance(verdict, Problem)
    assert verdict.level == "warning"
    assert verdict.remedy == "let 3 GPUs hold it in parts: set METEOR_TRAINER_GPUS to 0,1,2"
    settings.trainer_gpus = "0,1,2"
    (told,) = size_checks.memory(job)
    assert isinstance(told, str)
    assert "in parts" in told
    fitted = training_memory.fit(job)
    assert fitted is not None
    assert (fitted.fits, fitted.remedy) == (True, "")
    assert 8.03 * 2 > fitted.training_gb > 8.03 * 2 / 3


NOW = 1_795_910_400.0  # a day of November 2026
KEY, PROJECT = "key-1", "proj-1"


@pytest.mark.parametrize(
    ("owner", "limits", "spent", "on_exceed", "told"),
    [
        (KEY, Limits(calls=50), 0, "pause", None),
        (KEY, Limits(usd=9.0), 0, "fail", None),
        (KEY, Limits(calls=20), 0, "fail", ("warning", "budget_may_not_suffice", "20 of 20 calls left")),
        (KEY, Limits(calls=50), 31, "pause", ("warning", "budget_may_not_suffice", "19 of 50 calls left")),
        (KEY, Limits(calls=50), 45, "pause", ("warning", "budget_too_small", "it pauses; PATCH /v1/keys/key-1 raises it")),
        (KEY, Limits(calls=50), 45, "fail", ("error", "budget_too_small", "it fails; PATCH /v1/keys/key-1 raises it")),
        (KEY, Limits(calls=9), 0, "pause", ("error", "budget_too_small", "this month's budget of API key key-1 has 9 of 9")),
        (PROJECT, Limits(usd=0.5), 0, "pause", ("warning", "budget_too_small", "resume the job in the next day")),
        (PROJECT, Limits(usd=0.5), 0, "fail", ("error", "budget_too_small", "PATCH /v1/projects raises it")),
        (EVERY_PROJECT, Limits(tokens=900), 0, "pause", ("error", "budget_too_small", "METEOR_STRONG_PROJECT_TOKENS")),
    ],
)  # fmt: skip
def test_a_job_is_held_against_what_is_left_of_the_budgets_that_it_shares(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    limits: Limits,
    spent: int,
    on_exceed: str,
    told: tuple[str, str, str] | None,
):
    total = SimpleNamespace(
        usd=Range(low=1, high=3), input_tokens=Range(low=800, high=900), output_tokens=Range(low=200, high=300),
        calls=Range(low=10, high=25),
    )  # fmt: skip
    monkeypatch.setattr(size_checks, "estimate_of", lambda _: SimpleNamespace(total=total))
    monkeypatch.setattr("time.time", lambda: NOW)
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    ledger = open_ledger(url, limits) if owner == EVERY_PROJECT else open_ledger(url)
    if owner != EVERY_PROJECT:
        ledger.set_standing_limits(owner, limits)
    ledger.set_budget("job-1", Budget(), key_id=KEY)
    for number in range(spent):
        ledger.settle(ledger.begin(CallOrigin(PROJECT, "job-1"), "p", "m", f"{number}"), "ok", Cost(1, 1))
    job = posted(ROWS, budget={"on_exceed": on_exceed})
    context = SimpleNamespace(ledger=open_ledger(url), project=PROJECT, key_id=KEY)
    object.__setattr__(job, "context", context)
    problems = [*size_checks.shared_budgets(job)]
    if told is None:
        assert problems == []
        return
    (problem,) = problems
    assert isinstance(problem, Problem)
    assert (problem.level, problem.code) == told[:2]
    assert told[2] in problem.text
    object.__setattr__(job, "forked", True)  # what it takes over is paid
    assert [one.level for one in size_checks.shared_budgets(job) if isinstance(one, Problem)] == ["warning"]
