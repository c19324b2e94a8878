"""The stock client runs an eval, and reinforcement with a python and with a multi grader: real engine, trainer, graders, sandbox."""

import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from openai import OpenAI
from sqlalchemy import func, select

from shared.db.engine import reading
from shared.ledger.store import open_ledger
from shared.ledger.tables import calls
from shared.sandbox.confine import missing
from tests.e2e.conftest import System

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2000)]
needs_sandbox = pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {missing()}")
EVEN = "def grade(sample, item):\n    return float((len(sample['output_text']) + item['level']) % 2 == 0)"


@pytest.fixture(scope="module")
def client(system: System) -> OpenAI:
    system.mend()
    return OpenAI(base_url=f"{system.runner.urls['api']}/v1", api_key="none")


def until(look: Callable[[], Any], ended: tuple[str, ...], within_s: float = 900) -> Any:
    deadline = time.monotonic() + within_s
    while (run := look()).status not in ended:
        assert time.monotonic() < deadline, run
        time.sleep(0.2)
    return run


def paid_calls(system: System, job_id: str) -> int:
    with reading(open_ledger(f"sqlite:///{system.data / 'ledger.sqlite3'}").engine) as connection:
        return connection.execute(select(func.count()).where(calls.c.job_id == job_id)).scalar_one()


def measured(client: OpenAI, eval_id: str, model: str, items: str) -> Any:
    source: Any = {
        "type": "completions", "model": model, "source": {"type": "file_id", "id": items},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.question}}"}]},
        "sampling_params": {"max_completion_tokens": 12},
    }  # fmt: skip
    run = client.evals.runs.create(eval_id, name=model, data_source=source)
    return until(lambda: client.evals.runs.retrieve(run.id, eval_id=eval_id), ("completed", "failed", "canceled"))


@needs_sandbox
def test_an_eval_of_a_base_and_of_the_teacher(client: OpenAI, system: System):
    schema = {"type": "object", "required": ["question", "level"]}
    source: Any = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
    criteria: Any = [
        {"type": "python", "name": "even", "source": EVEN, "pass_threshold": 1},
        {"type": "string_check", "name": "says something", "operation": "ne", "input": "{{sample.output_text}}", "reference": ""},
    ]  # fmt: skip
    made = client.evals.create(
        name="lengths",
        data_source_config=source,
        testing_criteria=criteria,
    )
    rows = [{"item": {"question": f"eval: which number comes after {n}?", "level": n % 2}} for n in range(10)]
    items = client.files.create(file=("items.jsonl", "\n".join(map(json.dumps, rows)).encode()), purpose="evals").id
    base, teacher = (measured(client, made.id, model, items) for model in ("tiny", "default"))
    for run in (base, teacher):
        assert run.status == "completed", run
        assert run.result_counts.total == 10
        assert run.result_counts.errored == 0
        output = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=4))  # page by page
        assert len(output) == 10
        for item in output:
            text = item.sample.output[0].content or ""
            even = float((len(text) + int(str(item.datasource_item["level"]))) % 2 == 0)
            assert [result.score for result in item.results] == [even, float(text != "")]
        passed = sum(all(result.passed for result in item.results) for item in output)
        assert run.result_counts.passed == passed
        (usage,) = run.per_model_usage
        assert usage.invocation_count == 10
        assert usage.completion_tokens > 0
    assert paid_calls(system, base.id) == 0
    assert paid_calls(system, teacher.id) == 10
    again = measured(client, made.id, "tiny", items)
    assert again.result_counts == base.result_counts, "greedy answers are the same"


GRADERS: dict[str, Any] = {
    "python": {"type": "python", "name": "even", "source": EVEN},
    "multi": {
        "type": "multi", "name": "both", "calculate_output": "0.2 * said + 0.8 * even",
        "graders": {
            "said": {"type": "string_check", "name": "said", "operation": "ne", "input": "{{sample.output_text}}", "reference": "{{item.reference_answer}}"},
            "even": {"type": "python", "name": "even", "source": EVEN},
        },
    },
}  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize("kind", GRADERS)
def test_reinforcement(client: OpenAI, system: System, kind: str):
    rows = [
        {
            "messages": [{"role": "user", "content": f"{kind}: which number comes after {n}?"}],
            "reference_answer": "the number is seven",
            "level": n % 2,
        }
        for n in range(40)
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    file = client.files.create(file=(f"{kind}.jsonl", content), purpose="fine-tune").id
    hyper: Any = {"n_epochs": 1, "batch_size": 4, "compute_multiplier": 0.5, "learning_rate_multiplier": 1}
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": GRADERS[kind], "hyperparameters": hyper}}
    made = client.fine_tuning.jobs.create(model="tiny", training_file=file, method=method, suffix=f"rft-{kind}")
    job: Any = until(lambda: client.fine_tuning.jobs.retrieve(made.id), ("succeeded", "failed", "cancelled"))
    assert job.status == "succeeded", job.error
    assert job.method.type == "reinforcement"
    assert job.method.reinforcement.grader.type == kind
    assert job.method.reinforcement.hyperparameters.compute_multiplier == 0.5
    assert paid_calls(system, job.id) == 0, "no strong model was asked"
    assert job.trained_tokens > 0
    report = system.report(job.id)
    assert [decision["phase"] for decision in report["decisions"]] == ["iterate", "evolve"]
    (round_one,) = report["phases"]["iterate"]["rounds"]
    assert round_one["sampled"]["samples"] == 4
    assert 0 < round_one["sampled"]["pass_at"]["1"] < 1
    assert report["phases"]["evolve"]["turns"][0]["pairs"] > 0
    rewards = [
        event.data["sampled"]["reward"]
        for event in client.fine_tuning.jobs.list_events(job.id, limit=100)
        if event.type == "metrics" and isinstance(event.data, dict) and event.data.get("sampled")
    ]
    assert len(rewards) >= 2
    assert all(0 < reward < 1 for reward in rewards)
    text = client.files.content(job.result_files[0]).text
    trainings = {row["training"] for row in csv.DictReader(io.StringIO(text))}
    assert trainings == {"iterate/1/train", "evolve/1/train"}
