"""Runs of evals: the real API functions, orchestrator, database, step client and graders; the student is a fake engine's arithmetic,
the provider a fake teacher behind the real gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.api.features.evals import service as evals
from services.api.paging import Paging
from services.judge.check import check
from services.strong_model.worker.complete import complete
from services.weak_model.worker.completions import answer
from services.weak_model.worker.student_client import StudentReply
from shared.contracts.errors import Conflict, NotFound, UserError
from shared.contracts.estimate import Price
from shared.contracts.eval_results import CheckInput, CheckParams, CompleteParams, EvalRunObject
from shared.contracts.evals import EvalRequest, RunRequest
from shared.contracts.rows import StudentPrompt
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult, StudentParams
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.gateway_client import GatewayClient, origin_headers
from shared.sandbox.confine import missing
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, running_gateway
from tests.fakes.simulated import BASE, World
from tests.fakes.start import start_teacher
from tests.fakes.system import System

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
EXACT = {"type": "string_check", "name": "exact", "operation": "eq", "input": "{{sample.output_text}}"}
ITEMS = [{"item": {"question": f"What is {n} plus {n}?", "answer": str(2 * n)}} for n in range(40)]


class Adder:
    """An engine that adds, but for numbers that end in 7. asked: the messages of each request."""

    def __init__(self):
        self.asked: list[Any] = []

    async def complete(self, model: Any, messages: Any, sampling: Any, seed: Any, tools: Any = ()) -> StudentReply:
        self.asked.append((model, messages, sampling.temperature))
        number = int(messages[-1]["content"].split()[2])
        return StudentReply("no idea" if number % 10 == 7 else str(2 * number), "stop", 3, 20)


class Evaluating(World):
    """The real functions of the workers. sandbox: the operator allows code."""

    def __init__(self, gateway: Gateway | None = None, sandbox: bool = False):
        super().__init__()
        self.gateway, self.sandbox, self.engine = gateway, sandbox, Adder()

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        def told(done: int, total: int, **more: Any) -> None:
            return None

        if request.kind is StepKind.CHECK:
            params = CheckParams.model_validate(request.params)
            rows = [CheckInput.model_validate(row) for row in request.rows]
            made, metrics = await check(params.criteria, {}, self.sandbox, rows, told)
        elif request.kind is StepKind.ANSWER:
            prompts = [StudentPrompt.model_validate(row) for row in request.rows]
            engine: Any = self.engine  # it is never asked for several answers at once
            made, metrics = await answer(engine, StudentParams.model_validate(request.params), prompts, told)
        else:
            assert self.gateway is not None
            origin = origin_headers(DEFAULT_PROJECT, "j", str(key), "sample")
            prompts = [StudentPrompt.model_validate(row) for row in request.rows]
            async with GatewayClient(self.gateway.url, TOKEN, origin) as client:
                made, metrics = await complete(client, CompleteParams.model_validate(request.params), prompts, told)
                metrics |= client.refusals()
        return StepResult(rows=[row.model_dump(mode="json") for row in made], metrics=metrics)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = start_teacher("--api-key", KEY)
    with server as teacher, running_gateway(teacher, tmp_path_factory.mktemp("evals"), **PATIENT) as made:
        yield made


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch, Evaluating())


def made(system: System, *criteria: dict[str, Any]) -> str:
    body = {
        "name": "sums",
        "data_source_config": {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True},
        "testing_criteria": list(criteria) or [EXACT | {"reference": "{{item.answer}}"}],
    }
    return evals.create(system.context, EvalRequest.model_validate(body)).id


def begun(system: System, eval_id: str, source: dict[str, Any] | None = None, **more: Any) -> EvalRunObject:
    asks: dict[str, Any] = {"type": "completions", "model": BASE.base, "source": content(ITEMS)} | (source or {})
    return evals.create_run(system.context, eval_id, RunRequest.model_validate({"data_source": asks} | more))


def content(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "file_content", "content": items}


async def ended(system: System, run: EvalRunObject, status: str = "succeeded") -> EvalRunObject:
    await system.until(run.id, status)
    return evals.run(system.context, run.eval_id, run.id)


async def test_a_base_is_measured_item_by_item(system: System):
    like = {"type": "text_similarity", "name": "near", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.2}
    eval_id = made(system, EXACT | {"reference": "{{item.answer}}"}, like | {"reference": "{{item.answer}}"})
    template = [
        {"role": "developer", "content": "Reply with a number."},
        {"role": "user", "content": {"type": "input_text", "text": "{{item.question}}"}},
    ]
    asked = {"type": "template", "template": template}
    async with system.running():
        run = begun(system, eval_id, {"input_messages": asked}, name="first", metadata={"a": "b"})
        assert (run.status, run.result_counts.total) == ("queued", 0)
        run = await ended(system, run)
    assert (run.status, run.name, run.metadata, run.model) == ("completed", "first", {"a": "b"}, BASE.base)
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (40, 36, 4, 0)
    assert [(one.testing_criteria, one.passed) for one in run.per_testing_criteria_results] == [
        ("exact", 36),
        ("near", 36),
    ]
    assert run.mean_scores["exact"] == 0.9
    (usage,) = run.per_model_usage
    assert (usage.invocation_count, usage.prompt_tokens, usage.completion_tokens) == (40, 800, 120)
    assert isinstance(system.world, Evaluating)
    engine = system.world.engine
    asked_first = [
        {"role": "system", "content": "Reply with a number."},
        {"role": "user", "content": "What is 0 plus 0?"},
    ]
    assert asked_first in [messages for _, messages, _ in engine.asked]
    assert {temperature for _, _, temperature in engine.asked} == {0.0}

    # the rows, page by page
    rows, after = [], None
    while True:
        page = evals.items(system.context, eval_id, run.id, Paging(after, 15), "asc", None)
        rows += page.data
        after = page.last_id
        if not page.has_more:
            break
    assert [row.datasource_item_id for row in rows] == list(range(40))
    wrong = evals.items(system.context, eval_id, run.id, Paging(None, 100), "desc", "fail").data
    assert [row.datasource_item_id for row in wrong] == [37, 27, 17, 7]
    row = evals.item(system.context, eval_id, run.id, wrong[0].id)
    assert (row.sample.output[0].content, row.results[0].passed, row.results[0].type) == (
        "no idea",
        False,
        "string_check",
    )
    assert row.datasource_item == ITEMS[37]["item"]
    with pytest.raises(NotFound, match="no output item"):
        evals.item(system.context, eval_id, run.id, "outputitem-none")


async def test_answers_that_are_given(system: System):
    path = system.settings.data / "files"
    path.mkdir(exist_ok=True)
    lines = [{"item": {"question": "q", "right": f"{n}"}, "sample": {"output_text": "1"}} for n in range(3)]
    digest = "d" * 64
    (path / digest).write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    file = system.stores.catalog.add_file(
        DEFAULT_PROJECT, sha256=digest, bytes=9, filename="i.jsonl", purpose="evals", status="processed", errors=[]
    )
    numbers = {"type": "number", "name": "number", "reference": "{{item.right}}"}
    schema = {"type": "json_schema", "name": "form", "schema": {"type": "number"}}
    both = {
        "type": "multi",
        "name": "both",
        "graders": {"e": EXACT | {"reference": "{{item.right}}"}},
        "calculate_output": "1 - e",
    }
    eval_id = made(system, numbers, schema, both)
    async with system.running():
        source = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
        run = evals.create_run(system.context, eval_id, RunRequest.model_validate({"data_source": source}))
        with pytest.raises(Conflict, match="needed by run"):
            system.stores.catalog.delete_file(DEFAULT_PROJECT, file.id)
        run = await ended(system, run)
    assert [(one.testing_criteria, one.passed) for one in run.per_testing_criteria_results] == [
        ("number", 1), ("form", 3), ("both", 2),
    ]  # fmt: skip
    assert (run.result_counts.passed, run.result_counts.failed, run.per_model_usage) == (0, 3, [])


async def test_a_row_that_cannot_be_graded_is_an_error_of_its_own(system: System):
    rows = [*ITEMS[:2], {"item": {"question": "What is 5 plus 5?"}}]
    eval_id = made(system)
    async with system.running():
        run = await ended(system, begun(system, eval_id, {"source": content(rows)}))
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (3, 2, 0, 1)
    (bad,) = evals.items(system.context, eval_id, run.id, Paging(), "asc", "error").data
    assert bad.results[0].error is not None
    assert "there is no 'answer'" in bad.results[0].error


@pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {missing()}")
async def test_code_of_users_needs_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = "def grade(sample, item):\n    return float(sample['output_text'] == item['answer'])"
    code = {"type": "python", "name": "code", "source": source, "pass_threshold": 1}
    off = System(tmp_path / "off", monkeypatch, Evaluating())
    with pytest.raises(UserError, match="METEOR_SANDBOX") as refused:
        made(off, code)
    assert refused.value.code == "sandbox_off"
    monkeypatch.setenv("METEOR_SANDBOX", "true")
    system = System(tmp_path / "on", monkeypatch, Evaluating(sandbox=True))
    async with system.running():
        run = await ended(system, begun(system, made(system, code), {"source": content(ITEMS[:8])}))
    assert (run.result_counts.passed, run.result_counts.failed) == (7, 1)


async def test_a_provider_is_asked_through_the_gateway_and_paid_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
):
    system = System(tmp_path, monkeypatch, Evaluating(gateway))
    monkeypatch.setattr(system.context.providers, "prices", lambda: {"default": Price(input=1.0, output=2.0)})
    exact = {"type": "string_check", "name": "any", "operation": "ne", "reference": ""}
    eval_id = made(system, exact)
    before = len(gateway.rows())
    async with system.running():
        first = await ended(system, begun(system, eval_id, {"model": "default", "source": content(ITEMS[:3])}))
        again = await ended(system, begun(system, eval_id, {"model": "default", "source": content(ITEMS[:3])}))
    assert (first.result_counts.passed, again.result_counts.passed) == (3, 3)
    assert len([row for row in gateway.rows()[before:] if row.outcome == "ok" and not row.cached]) == 3
    assert first.per_model_usage == again.per_model_usage
    assert first.per_model_usage[0].total_tokens > 0
    asked = [row["messages"] for row in gateway.teacher.log() if len(row["messages"]) == 1]
    assert [{"role": "user", "content": ITEMS[0]["item"]["question"]}] in asked, "not a word of ours before it"


async def test_a_run_goes_on_after_its_orchestrator_and_workers_were_lost(system: System):
    system.lease_s, system.seconds = 2.0, lambda request: 0.2
    run = begun(system, made(system))
    async with system.running():
        await system.until_ran(run.id, 2)
    before = set(system.ran[run.id])
    system.lease_s, system.seconds = 3600.0, lambda request: 0.0
    async with system.running():
        run = await ended(system, run)
    assert (run.result_counts.total, run.result_counts.passed) == (40, 36)
    assert len(system.ran[run.id]) <= 6 + len(before), "finished steps are not done again"


async def test_runs_are_cancelled_listed_and_deleted(system: System):
    system.seconds = lambda request: 0.3
    eval_id = made(system)
    async with system.running():
        runs = [begun(system, eval_id) for _ in range(3)]
        with pytest.raises(Conflict, match="cancel it first"):
            system.stores.evals.delete_run(DEFAULT_PROJECT, eval_id, runs[0].id)
        stopped = evals.cancel(system.context, eval_id, runs[0].id)
        assert stopped.status == "canceled"
        await system.until(runs[0].id, "cancelled")
        await ended(system, runs[1])
        await ended(system, runs[2])
    listed = evals.runs(system.context, eval_id, Paging(), "asc", None)
    assert [run.id for run in listed.data] == [run.id for run in runs]
    page = evals.runs(system.context, eval_id, Paging(runs[2].id, 1), "desc", None)
    assert ([run.id for run in page.data], page.has_more) == ([runs[1].id], True)
    assert [run.id for run in evals.runs(system.context, eval_id, Paging(), "asc", "canceled").data] == [runs[0].id]
    system.stores.evals.delete_run(DEFAULT_PROJECT, eval_id, runs[0].id)
    with pytest.raises(NotFound):
        evals.run(system.context, eval_id, runs[0].id)
    system.stores.evals.delete(DEFAULT_PROJECT, eval_id)
    assert evals.page(system.context, Paging(), "asc", "created_at").data == []
    assert system.row(runs[1].id) is None


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"model": "nobody"}, "no model 'nobody'"),
        ({"source": content([{"item": {"answer": "1"}}])}, "row 1 does not meet the eval's item_schema"),
        ({"source": content([{"item": {"question": "q"}}])}, "cannot grade row 1: item.answer"),
        ({"source": {"type": "file_id", "id": "file-none"}}, "no file"),
        ({"input_messages": {"type": "item_reference", "item_reference": "item.turns"}}, "row 1: item.turns"),
        ({"type": "jsonl", "model": None}, "row 1 has no sample"),
    ],
)
def test_a_run_that_could_not_be_done_is_refused(
    system: System, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], says: str
):
    monkeypatch.setattr(system.context.providers, "prices", lambda: {"default": Price(input=1.0, output=2.0)})
    eval_id = made(system)
    asks: dict[str, Any] = {"type": "completions", "model": BASE.base, "source": content(ITEMS)} | source
    given = {name: value for name, value in asks.items() if value is not None}
    with pytest.raises(UserError, match=says):
        evals.create_run(system.context, eval_id, RunRequest.model_validate({"data_source": given}))
