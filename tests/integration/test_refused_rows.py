"""One flagged row and one that is too long among many, in whole jobs at providers that say so in their own ways: real gateway,
ledger and workers' functions; only the student is pretended."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.strong_model.worker.questions import write_questions
from shared.contracts.data import Question
from shared.contracts.imports import AskParams, Passage
from tests.fakes.gateway import Gateway
from tests.fakes.providers.manners import FLAGGED, LONG
from tests.fakes.simulated import Simulation, questions
from tests.fakes.start import FakeServer
from tests.integration.test_flawed_teacher import Served

NAMES = ("gpt-5", "claude-opus", "gemini", "deepseek", "azure", "openrouter", "kimi", "qwen", "plain")
DOES_NOT_FILTER = ("plain",)
TRAIN = 20
EVALUATION = {"baselines": [], "forgetting": 0, "judged_questions": 0, "absolute_scores": False}
JOB: dict[str, Any] = {"phases": ["distill"], "guidance": "none", "batch_size": 8, "evaluation": EVALUATION}


def spec_of(**more: Any) -> dict[str, Any]:
    return JOB | more


def with_words(rows: Sequence[Question], words: dict[str, str]) -> list[Question]:
    return [
        row.model_copy(update={"question": f"{row.question} {words[row.id]}"}) if row.id in words else row
        for row in rows
    ]


@pytest.mark.parametrize("name", NAMES)
async def test_a_row_that_the_provider_refuses_is_missing_and_named_and_not_asked_again(
    simulated_gateway: Gateway, simulated_servers: dict[str, FakeServer], name: str
):
    words = {} if name in DOES_NOT_FILTER else {"train-3": FLAGGED}
    rows = with_words(questions(TRAIN, 10, 10), words)
    spec = spec_of(teacher={"provider": name})
    simulation = Simulation(Path(simulated_gateway.ledger.engine.url.database or "").parent)
    report = await simulation.job(Served(simulated_gateway, base_skill=0.3), rows, suffix=name, **spec)
    refused = [(row["id"], row["outcome"]) for row in report.get("refused", []) if row["phase"] == "distill"]
    assert refused == [(row, "refused") for row in words]
    assert all(row["words"] for row in report.get("refused", []))
    assert report["phases"]["distill"]["kept"] == TRAIN - len(words)

    def flagged() -> int:
        return sum(FLAGGED in json.dumps(entry["messages"]) for entry in simulated_servers[name].log())

    before = flagged()
    again = await simulation.job(Served(simulated_gateway, base_skill=0.3), rows, suffix=f"{name}-again", **spec)
    assert again.get("refused") == report.get("refused")
    assert flagged() == before, "the same bytes are not asked twice"
    other = await simulation.job(Served(simulated_gateway, base_skill=0.3), rows, suffix=f"{name}-x", seed=1, **spec)
    assert again["phases"]["distill"]["dropped"] == other["phases"]["distill"]["dropped"]


async def test_a_row_that_is_too_long_is_an_outcome_of_its_own(simulated_gateway: Gateway):
    rows = with_words(questions(TRAIN, 10, 10), {"train-5": LONG})
    simulation = Simulation(Path(simulated_gateway.ledger.engine.url.database or "").parent)
    world, spec = Served(simulated_gateway, base_skill=0.3), spec_of(teacher={"provider": "gpt-5"})
    report = await simulation.job(world, rows, suffix="long", **spec)
    assert {(row["id"], row["outcome"]) for row in report["refused"]} == {("train-5", "too_long")}
    assert report["phases"]["distill"]["dropped"] == {"too_long": 1}


async def test_a_pair_that_the_judge_s_provider_refuses_is_a_tie_and_named(simulated_gateway: Gateway):
    rows = [row.model_copy(update={"reference": None}) for row in questions(TRAIN, 10, 10)]
    rows = with_words(rows, {"dev-2": FLAGGED})
    spec = spec_of(teacher={"provider": "plain"}, judge={"provider": "gpt-5"})
    simulation = Simulation(Path(simulated_gateway.ledger.engine.url.database or "").parent)
    report = await simulation.job(
        Served(simulated_gateway, base_skill=0.3, train=lambda _, b: b + 0.3), rows, suffix="judge", **spec
    )
    assert "dev-2" in {row["id"] for row in report["refused"]}


async def test_a_passage_that_the_provider_refuses_has_no_questions(simulated_gateway: Gateway):
    passages = [Passage(id=f"p{n}", document="d", text=f"A passage {FLAGGED if n == 1 else ''}") for n in range(3)]
    params = AskParams(teacher="gpt-5", domain="d", per_passage=2, max_tokens=256, seed=0)
    async with simulated_gateway.client() as client:
        written, _ = await write_questions(client, params, passages, lambda *_: None)
        assert [row["id"] for row in client.refusals()["refusals"]] == ["p1"]
    assert written[1].questions == []
