"""Answers that a killed attempt of a step had already."""

from pathlib import Path

import pytest

from services.weak_model.worker.cached_client import CachedClient
from services.weak_model.worker.completions import answer, sample
from services.weak_model.worker.student_client import StudentReply
from shared.contracts.errors import TransientError
from shared.contracts.rows import StudentPrompt
from shared.contracts.steps import ModelRef, Sampling, StudentParams

ROWS = [StudentPrompt(id=str(n), question=f"question {n}") for n in range(6)]


class Engine:
    """Answers so many rows, and then is gone."""

    def __init__(self, lasts: int):
        self.lasts = lasts
        self.asked: list[str] = []

    async def complete(self, model, messages, sampling, seed, tools=()) -> StudentReply:
        self.asked.append(messages[-1]["content"])
        if len(self.asked) > self.lasts:
            raise TransientError("the engine is away")
        return StudentReply(f"{model} says {seed}\nné", "stop", 3, 5)

    async def complete_often(self, model, messages, sampling, seed, n, tools=()) -> list[StudentReply]:
        first = await self.complete(model, messages, sampling, seed, tools)
        return [first, *(StudentReply(f"{first.text} {place}", "length") for place in range(1, n))]


def params(base: str = "tiny", seed: int = 1) -> StudentParams:
    model = ModelRef(base=base, base_hash="0" * 64)
    return StudentParams(model=model, domain="d", sampling=Sampling(max_tokens=9, seed=seed))


async def test_the_next_attempt_asks_only_for_what_is_missing(tmp_path: Path):
    file = tmp_path / "answers.jsonl"
    with pytest.raises(TransientError):
        await answer(CachedClient(Engine(4), file), params(), ROWS, lambda *_, **__: None)
    file.write_bytes(file.read_bytes()[:-20] + b"\xc3")  # killed while it wrote the fourth
    second, seen = Engine(9), []
    attempts, metrics = await answer(
        CachedClient(second, file), params(), ROWS, lambda done, *_, **__: seen.append(done)
    )
    assert len(second.asked) == 3
    assert [attempt.id for attempt in attempts] == [row.id for row in ROWS]
    assert (metrics["n"], metrics["tokens"], seen[-1]) == (6, 18, 6)
    third = Engine(0)
    again, _ = await answer(CachedClient(third, file), params(), ROWS, lambda *_, **__: None)
    assert again == attempts
    assert third.asked == []


async def test_another_student_or_seed_is_asked(tmp_path: Path):
    file = tmp_path / "answers.jsonl"
    for number, asked in enumerate((params(), params(base="other"), params(seed=2))):
        engine = Engine(9)
        await answer(CachedClient(engine, file), asked, ROWS, lambda *_, **__: None)
        assert len(engine.asked) == 6, number


async def test_samples_of_an_earlier_attempt_are_not_drawn_again(tmp_path: Path):
    file, asked = tmp_path / "answers.jsonl", params().model_copy(update={"n": 3})
    with pytest.raises(TransientError):
        await sample(CachedClient(Engine(4), file), asked, ROWS, lambda *_, **__: None)
    second = Engine(9)
    drawn, metrics = await sample(CachedClient(second, file), asked, ROWS, lambda *_, **__: None)
    assert len(second.asked) == 2
    assert all([c.finish_reason for c in row.completions] == ["stop", "length", "length"] for row in drawn)
    assert (metrics["n"], metrics["cut_off"], metrics["tokens"]) == (18, 12, 18)
    again, _ = await sample(CachedClient(Engine(0), file), asked, ROWS, lambda *_, **__: None)
    assert again == drawn
    more = Engine(9)
    await sample(CachedClient(more, file), asked.model_copy(update={"n": 4}), ROWS, lambda *_, **__: None)
    assert len(more.asked) == 6
