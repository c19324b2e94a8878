"""What is measured is what is served: the evaluation's requests reach the engine as a user's chat requests do."""

from pathlib import Path
from typing import Any

import openai

from services.orchestrator.method.forgetting import GENERAL_TOKENS
from services.weak_model.worker import completions
from services.weak_model.worker.student_client import StudentClient
from shared.contracts.engine import Priority
from shared.contracts.rows import StudentPrompt
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind, StepRequest, StepResult, StudentParams
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import BASE, RunningApi
from tests.fakes.simulated import Simulation, World, questions
from tests.fakes.vllm import FakeVllm

SEED = 5


class Recording(World):
    """Keeps what the evaluation asks of students on the test split."""

    def __init__(self) -> None:
        super().__init__(0.3, train=lambda request, before: 0.95)
        self.asked: dict[str, StepRequest] = {}

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        if request.kind is StepKind.ANSWER:
            self.asked[str(key)] = request
        return await super().run(job, key, request, limit, on_progress)


def as_a_user(client: openai.OpenAI, model: str, row: StudentPrompt, params: StudentParams) -> None:
    """The question as a user asks it: no system text; worked examples, where there are any, as earlier turns."""
    turns: list[Any] = []
    for question, answer in row.shots:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    client.chat.completions.create(
        model=model,
        messages=[*turns, {"role": "user", "content": row.question}],
        max_tokens=params.sampling.max_tokens,
        temperature=params.sampling.temperature,
        top_p=params.sampling.top_p,
        seed=completions.row_seed(params.sampling.seed, row.id),
    )


def published(api: RunningApi, simulation: Simulation, adapter: str) -> str:
    """A version of the API's own that stands for the simulated job's student. Its job has ended."""
    file = api.stores.catalog.add_file(
        DEFAULT_PROJECT, sha256="0" * 64, bytes=0, filename="f", purpose="fine-tune", status="processed", errors=[]
    )
    request = simulation.request().model_copy(update={"training_file": file.id})
    job = api.stores.jobs.create(DEFAULT_PROJECT, request)
    api.stores.jobs.cancel(job)
    ref = ModelRef(base=BASE, base_hash="b", adapter=adapter)
    model = api.stores.catalog.publish(DEFAULT_PROJECT, "measured", ref, job.id, "promoted")
    return f"measured@{model.version}"


async def test_the_evaluation_asks_the_engine_what_public_chat_asks(
    client: openai.OpenAI, engine: FakeVllm, api: RunningApi, tmp_path: Path
):
    world, simulation = Recording(), Simulation(tmp_path)
    spec: dict[str, Any] = {"phases": ["distill"], "guidance": "none", "answer_tokens": 77}
    evaluation = {"baselines": ["few_shot_nearest"], "shots": 2, "forgetting": 8}
    rows = questions(train=8, dev=20, test=3)
    report = await simulation.job(world, rows, seed=SEED, evaluation=evaluation, **spec)
    adapter = report["final"]["adapter"]
    engine.models.add(adapter)
    final = published(api, simulation, adapter)
    for key, name in {
        "test/base": BASE,
        "test/few_shot_nearest": BASE,
        "test/distill": final,
        "general/final": final,
    }.items():
        request = world.asked[f"evaluate/{key}/answers/0"]
        params, row = StudentParams(**request.params), StudentPrompt(**request.rows[0])
        params = params.model_copy(update={"model": params.model.model_copy(update={"base": BASE})})
        async with StudentClient(engine.url, "", 20, 5) as student:
            await completions.answer(student, params, [row], lambda *_, **__: None)
        measured, place = dict(engine.last), len(engine.asked)
        assert measured.pop("priority") == Priority.STEP, "which is all that tells them apart"
        as_a_user(client, name, row, params)
        assert len(engine.asked) == place + 1
        assert engine.last == measured, key
        assert len(measured["messages"]) == (6 if key == "test/few_shot_nearest" else 2)
        assert measured["temperature"] == 0
        assert measured["max_tokens"] == (GENERAL_TOKENS if key == "general/final" else 77)
        assert measured["seed"] == completions.row_seed(SEED, row.id)
