"""Whole jobs whose teacher and judge have the manners of four providers: real orchestration, workers' functions, gateway and
ledger; only the student is pretended.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import Gateway
from tests.fakes.simulated import Simulation, questions
from tests.fakes.start import FakeServer
from tests.integration.test_flawed_teacher import Served

NAMES = ("gpt-5", "claude-opus", "gemini", "ollama")
TAUGHT, TRIED, TESTED = 24, 12, 10
EVALUATION = {"baselines": [], "forgetting": 0, "judged_questions": 10, "judged_margin": 0.01, "absolute_scores": False}


@pytest.mark.parametrize("name", NAMES)
async def test_a_job_runs_with_any_providers_teacher_and_judge(
    simulated_gateway: Gateway, simulated_servers: dict[str, FakeServer], name: str
):
    trained: list[dict[str, Any]] = []

    def train(request: Any, before: float) -> float:
        trained.extend(request.rows)
        return min(1.0, before + 0.3)

    folder = Path(simulated_gateway.ledger.engine.url.database or "").parent
    world = Served(simulated_gateway, base_skill=0.3, train=train)
    before, asked = len(simulated_gateway.rows()), len(simulated_servers[name].log())
    report = await Simulation(folder).job(
        world,
        questions(TAUGHT + TRIED, 10, TESTED),
        suffix=f"job-{name}",
        domain="jobs",  # so that no other test's answers are found in the cache
        teacher={"provider": name},
        judge={"provider": name},
        phases=["distill", "iterate"],
        guidance="none",
        iterate={"rounds": 1, "tries": 2, "on_failure": "teacher"},
        distill={"questions": TAUGHT},
        evaluation=EVALUATION,
    )
    distill, (round_one,) = report["phases"]["distill"], report["phases"]["iterate"]["rounds"]
    assert (distill["kept"], distill["dropped"], round_one["unparsed_verdicts"]) == (TAUGHT, {}, 0)
    answers = [row["completion"] for row in trained]
    assert len(answers) > TAUGHT
    assert all(answer.startswith("right") for answer in answers), "the teacher's words, without its reasoning"
    rows = simulated_gateway.rows()[before:]
    arrived = {entry["request_id"] for entry in simulated_servers[name].log()[asked:]}
    assert arrived == {row.id for row in rows if not row.cached}, "each request has its row"
    outcomes = Counter(row.outcome for row in rows if not row.cached)
    assert outcomes["ok"] >= TAUGHT
    assert outcomes["http_400"] <= 12, "what it refuses is learned once"
    assert outcomes["thought"] <= 8, "the room for its reasoning is learned once"
