"""A whole job whose teacher and judge err on purpose: every count of the report against the log of the fake itself.

Real orchestration, real workers' functions of teaching and judging, real gateway and ledger, HTTP to the fake. Only the
student is pretended.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.judge import review as judging
from services.judge.compare import compare
from services.strong_model.worker.teach import teach
from shared.contracts.errors import FatalError
from shared.contracts.rows import ComparisonInput, JudgeInput, TeacherInput
from shared.contracts.step_key import StepKey
from shared.contracts.steps import JudgeParams, StepKind, StepRequest, StepResult, TeachParams
from shared.grading.graders import Graders
from shared.platform.gateway_client import GatewayClient, origin_headers
from tests.fakes.flawed import REFUSAL
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, assert_ledger_is_log, running_gateway
from tests.fakes.simulated import Simulation, World, questions
from tests.fakes.start import start_teacher

TAUGHT, TRIED, SEARCHED, TESTED = 100, 40, 10, 20
EVALUATION = {"baselines": [], "forgetting": 0, "judged_questions": 20, "judged_margin": 0.01, "absolute_scores": False}
ROWS = {StepKind.TEACH: TeacherInput, StepKind.REVIEW: JudgeInput, StepKind.COMPARE: ComparisonInput}
ASKS: dict[StepKind, Any] = {StepKind.TEACH: teach, StepKind.REVIEW: judging.review, StepKind.COMPARE: compare}


class Served(World):
    """Teaching and judging as the workers do them; the ledger names the step by its key."""

    def __init__(self, gateway: Gateway, **options: Any):
        super().__init__(**options)
        self.gateway = gateway

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        if request.kind not in ASKS:
            return await super().run(job, key, request, limit, on_progress)
        self.keys.append(str(key))
        params = (TeachParams if request.kind is StepKind.TEACH else JudgeParams).model_validate(request.params)
        rows = [ROWS[request.kind].model_validate(row) for row in request.rows]
        origin = origin_headers(job.project_id, job.id, str(key), key.phase)
        async with GatewayClient(self.gateway.url, TOKEN, origin) as client:
            given: list[Any] = [client, params, rows, lambda *_: None]
            with Graders() as graders:
                more = [graders] if request.kind is StepKind.REVIEW else []
                answers, counts = await ASKS[request.kind](*given, *more)
            metrics = counts | client.refusals()
        return StepResult(rows=[row.model_dump(mode="json") for row in answers], metrics=metrics)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("flawed")
    server = start_teacher("--api-key", KEY, module="tests.fakes.flawed")
    with server as teacher, running_gateway(teacher, folder, **PATIENT) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def folder(gateway: Gateway) -> Path:
    return Path(gateway.ledger.engine.url.database or "").parent


def said(gateway: Gateway, step: str) -> list[str]:
    """What the fake's own log says it answered to calls of the steps that begin so. Kept answers are found by their request."""
    log = {entry["request_id"]: entry["answer"] for entry in gateway.teacher.log()}
    rows = gateway.rows()
    paid = {row.request_hash: log[row.id] for row in rows if not row.cached}
    return [paid[row.request_hash] for row in rows if row.step_id.startswith(step)]


async def test_every_count_of_the_report_is_what_the_flawed_model_did(gateway: Gateway, folder: Path):
    trained: dict[str, list[dict[str, Any]]] = {}

    def train(request: StepRequest, before: float) -> float:
        trained[request.kind.value + str(len(trained))] = request.rows
        return min(1.0, before + 0.3)

    world = Served(gateway, base_skill=0.3, train=train)
    report = await Simulation(folder).job(
        world,
        questions(train=TAUGHT + TRIED + SEARCHED, dev=10, test=TESTED),
        phases=["distill", "iterate", "evolve"],
        guidance="none",
        iterate={"rounds": 1, "tries": 3, "on_failure": "teacher"},
        distill={"questions": TAUGHT},
        evolve={"questions": SEARCHED},
        evaluation=EVALUATION,
    )

    # phase 1: what was refused is dropped, what is wrong is learned, for nobody can know
    lessons = said(gateway, "distill/answers")
    refused, wrong = lessons.count(REFUSAL), sum(text.startswith("wrong") for text in lessons)
    assert (len(lessons), 0.01 < refused / TAUGHT < 0.12, 0.1 < wrong / TAUGHT < 0.3) == (TAUGHT, True, True)
    distill = report["phases"]["distill"]
    assert (distill["questions"], distill["kept"], distill["dropped"]) == (
        TAUGHT,
        TAUGHT - refused,
        {"refused": refused},
    )
    assert sum(row["completion"].startswith("wrong") for row in trained["train.sft0"]) == wrong
    assert len(trained["train.sft0"]) == TAUGHT - refused

    # phase 2: passed and failed by try, and the corrections
    (round_one,) = report["phases"]["iterate"]["rounds"]
    tries = [[json.loads(text) for text in said(gateway, f"iterate/1/try-{t}")] for t in (1, 2, 3)]
    passes = [sum(verdict["correct"] for verdict in verdicts) for verdicts in tries]
    assert round_one["asked_by_try"] == [len(verdicts) for verdicts in tries]
    assert round_one["asked_by_try"][0] == round_one["questions"] == TRIED
    assert [len(v) - p for v, p in zip(tries[:2], passes[:2], strict=True)] == round_one["asked_by_try"][1:]
    assert round_one["pass_rate"] == [sum(passes[: t + 1]) / (TRIED) for t in range(3)]
    assert round_one["passed"] == sum(passes)
    corrections = said(gateway, "iterate/1/corrections")
    assert len(corrections) == TRIED - sum(passes) > 0
    refusals = corrections.count(REFUSAL)
    assert round_one["corrected"] == len(corrections) - refusals == len(trained["train.sft1"]) - sum(passes)
    assert round_one["dropped_corrections"] == ({"refused": refusals} if refusals else {})
    assert (round_one["unparsed_verdicts"], round_one["leaked_hints"]) == (0, 0)

    # phase 3: pairs, and no call
    (turn,) = report["phases"]["evolve"]["turns"]
    assert turn["pairs"] + turn["dropped"].get("identical", 0) == SEARCHED
    assert turn["pairs"] == len(trained["train.prefer2"])
    assert not said(gateway, "evolve")

    # the judge of the evaluation
    choices = said(gateway, "evaluate/judged")
    judged = report["judged"]
    assert all(set(json.loads(text).values()) == {"A"} for text in choices)
    assert len(choices) == 2 * judged["n"] == 2 * TESTED
    overall = judged["criteria"]["overall"]
    assert (overall["win"], overall["tie"], overall["loss"]) == (0, TESTED, 0)
    assert judged["judge"]["flip_rate"][0] == judged["judge"]["preferred_the_first_shown"][0] == 1
    assert judged["judge"]["preferred_the_first_shown"][1] > 0.8
    assert any("favours a position" in warning for warning in judged["judge"]["warnings"])
    assert judged["calls"] == len(choices)

    # the ledger
    assert_ledger_is_log(gateway)
    assert set(report["teacher"]) == {"pilot", "distill", "iterate", "evaluate"}
    assert sum(used["teacher_calls"] for used in report["teacher"].values()) == len(gateway.teacher.log())
    for phase, used in report["teacher"].items():
        assert used["teacher_calls"] + used["cached_calls"] == len(said(gateway, phase))


async def test_a_judge_that_says_nothing_ends_the_job_in_the_pilot(gateway: Gateway, tmp_path: Path):
    """After four answers of the teacher and the judge's replies to them, each asked for twice."""
    before = len(gateway.teacher.log())
    gateway.teacher.fault("empty", skip=4)
    try:
        with pytest.raises(FatalError) as error:
            await Simulation(tmp_path).job(Served(gateway), questions(), guidance="none", evaluation=EVALUATION, seed=5)
    finally:
        gateway.teacher.heal()
    assert (error.value.code, error.value.param) == ("judge_unfit", "distillation.judge.max_tokens")
    judged = re.search(r"the first (\d) answers \1 give no verdict", error.value.message)
    assert judged is not None, error.value.message
    assert "held no text" in error.value.message
    assert "judge.max_tokens is 256" in error.value.message
    assert len(gateway.teacher.log()) - before == 4 + 2 * int(judged.group(1))
