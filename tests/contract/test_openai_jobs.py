"""fine_tuning.jobs with the stock openai client: OpenAI's request alone, and everything that can be done with a job."""

import json
import threading
import time
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from shared.artifacts.store import Artifacts
from shared.contracts.distillation import Distillation
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import SAID, SAID_OF_DISTILLATION, JobDistillation, JobObject, JobRequest, JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind, StepResult
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, KEY, RunningApi, publish_version, rows

MANY = 250


EQUAL: Any = {
    "type": "string_check", "name": "right", "operation": "eq",
    "input": "{{sample.output_text}}", "reference": "{{item.reference_answer}}",
}  # fmt: skip
CODE: Any = {"type": "python", "name": "code", "source": "def grade(sample, item):\n    return 1.0"}


def extra(model: BaseModel) -> dict[str, Any]:
    return model.model_extra or {}


@pytest.fixture(scope="module")
def dataset(api: RunningApi) -> str:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY) as client:
        return client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune").id


@pytest.fixture
def job(client: openai.OpenAI, dataset: str) -> str:
    return client.fine_tuning.jobs.create(model=BASE, training_file=dataset).id


def test_openais_request_is_plain_training_on_the_file(client: openai.OpenAI, dataset: str):
    answer = client.fine_tuning.jobs.with_raw_response.create(
        model=BASE,
        training_file=dataset,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
        },
        seed=7,
        suffix="own",
        metadata={"team": "x"},
        validation_file=None,
        integrations=None,
    )
    made = answer.parse()
    assert answer.headers["location"] == f"/v1/fine_tuning/jobs/{made.id}"
    assert (made.object, made.status, made.seed, made.metadata) == ("fine_tuning.job", "queued", 7, {"team": "x"})
    assert made.method is not None
    assert made.method.supervised is not None
    shown = made.method.supervised.hyperparameters
    assert shown is not None
    assert (shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (2, "auto", 0.5)
    assert made.hyperparameters.n_epochs == 2
    spec = extra(made)["distillation"]
    assert (spec["phases"], spec["distill"]["answers"]) == (["distill"], "references")
    # no teacher is asked: nothing is said of a gateway that does not answer
    messages = [event.message for event in client.fine_tuning.jobs.list_events(made.id)]
    assert messages == ["job created and queued"]


def test_a_job_goes_on_from_a_version(api: RunningApi, client: openai.OpenAI, dataset: str):
    publish_version(api, "begun", ADAPTER)
    made = client.fine_tuning.jobs.create(model="begun@1", training_file=dataset)
    assert (made.model, made.status) == ("begun@1", "queued")
    with pytest.raises(openai.BadRequestError, match="begun@2"):
        client.fine_tuning.jobs.create(model="begun@2", training_file=dataset)


def test_the_older_place_of_hyperparameters(client: openai.OpenAI, dataset: str):
    made = client.fine_tuning.jobs.create(model=BASE, training_file=dataset, hyperparameters={"n_epochs": 4})
    assert made.hyperparameters.n_epochs == 4
    assert made.method is not None
    assert made.method.type == "supervised"


@pytest.mark.parametrize(
    ("more", "code", "param", "says"),
    [
        ({"method": {"type": "dpo", "dpo": {}}}, "no_pairs", "training_file", "non_preferred_output"),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}},
            "invalid_value",
            "method.dpo.hyperparameters.beta",
            "beta",
        ),
        ({"method": {"type": "reinforcement"}}, "invalid_value", "method", "by which grader"),
        (
            {
                "method": {
                    "type": "reinforcement",
                    "reinforcement": {"grader": EQUAL, "hyperparameters": {"eval_samples": 4}},
                }
            },
            "invalid_value",
            "method.reinforcement.hyperparameters.eval_samples",
            "no meaning here",
        ),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": CODE}}},
            "sandbox_off",
            "distillation.primary_metric",
            "METEOR_SANDBOX",
        ),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
            "integration_not_allowed",
            "integrations.0.type",
            "METEOR_INTEGRATIONS",
        ),
        (
            {"integrations": 2 * [{"type": "wandb", "wandb": {"project": "p"}}]},  # a rule of our own request alone
            "invalid_value",
            None,
            "each type once",
        ),
        ({"method": {"type": "guesswork"}}, "invalid_value", "method.type", "supervised"),
        (
            {"method": {"type": "supervised"}, "extra_body": {"distillation": {"domain": "sums"}}},
            "invalid_value",
            None,
            "either method or distillation",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    client: openai.OpenAI, dataset: str, more: dict[str, Any], code: str, param: str | None, says: str
):
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        client.fine_tuning.jobs.create(model=BASE, training_file=dataset, **more)
    assert (refused.value.code, refused.value.param) == (code, param)


def test_reinforcement_by_the_fields_of_openais_rows(client: openai.OpenAI):
    rows = [
        {"messages": [{"role": "user", "content": f"{n} + {n}?"}], "reference_answer": f"{2 * n}", "level": n % 3}
        for n in range(60)
    ]
    file = client.files.create(file=("rft.jsonl", "\n".join(map(json.dumps, rows)).encode()), purpose="fine-tune")
    assert file.status == "processed"
    assert any("{{item.reference_answer}}" in words for words in extra(file)["reading"]["warnings"])
    near = {
        "type": "text_similarity",
        "name": "near",
        "evaluation_metric": "fuzzy_match",
        "input": "{{sample.output_text}}",
    }
    grader: Any = {
        "type": "multi", "name": "reward", "calculate_output": "0.8 * right + 0.2 * near",
        "graders": {"right": EQUAL, "near": near | {"reference": "{{item.reference_answer}}"}},
    }  # fmt: skip
    hyper: Any = {"n_epochs": 2, "compute_multiplier": 0.5, "eval_interval": "auto", "reasoning_effort": "default"}
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": hyper}}
    made = client.fine_tuning.jobs.create(model=BASE, training_file=file.id, method=method)
    assert made.method is not None
    assert made.method.type == "reinforcement"
    shown = made.method.reinforcement
    assert shown is not None
    assert shown.grader.type == "multi"
    assert shown.hyperparameters is not None
    assert (shown.hyperparameters.n_epochs, shown.hyperparameters.compute_multiplier) == (2, 0.5)
    spec = extra(made)["distillation"]
    assert spec["phases"] == ["iterate", "evolve"]
    assert (spec["iterate"]["strategy"], spec["evolve"]["strategy"], spec["iterate"]["samples"]) == (
        "sample",
        "verified",
        4,
    )
    assert (spec["judge"]["pass_mark"], spec["evaluation"]["graders"]) == (0.5, [])
    messages = [event.message for event in client.fine_tuning.jobs.list_events(made.id)]
    assert messages == ["job created and queued"], "no provider is needed"
    again = client.fine_tuning.jobs.create(model=BASE, training_file=file.id, method=method)
    assert again.method == made.method
    for job in (made, again):
        client.fine_tuning.jobs.cancel(job.id)
    absent: Any = {"type": "reinforcement", "reinforcement": {"grader": EQUAL | {"reference": "{{item.solution}}"}}}
    with pytest.raises(openai.BadRequestError, match="there is no 'solution'"):
        client.fine_tuning.jobs.create(model=BASE, training_file=file.id, method=absent)
    bare: Any = {"type": "reinforcement", "reinforcement": {"grader": EQUAL | {"reference": "{{item.reference}}"}}}
    with pytest.raises(openai.BadRequestError, match="rows that its grader can grade"):
        client.fine_tuning.jobs.create(model=BASE, training_file=file.id, method=bare)


def preference(number: int) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": f"What is {number} + 1?"}], "tools": []},
        "preferred_output": [{"role": "assistant", "content": f"{number + 1}"}],
        "non_preferred_output": [{"role": "assistant", "content": "I do not know"}],
    }


def test_training_on_preferences(client: openai.OpenAI):
    content = "\n".join(json.dumps(preference(n)) for n in range(60)).encode()
    file = client.files.create(file=("pairs.jsonl", content), purpose="fine-tune").id
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5, "n_epochs": 2}}}
    made = client.fine_tuning.jobs.create(model=BASE, training_file=file, method=method)
    assert made.method is not None
    assert made.method.type == "dpo"
    assert made.method.dpo is not None
    assert made.method.dpo.hyperparameters is not None
    assert (made.method.dpo.hyperparameters.beta, made.method.dpo.hyperparameters.n_epochs) == (0.5, 2)
    spec = extra(made)["distillation"]
    assert (spec["phases"], spec["evolve"]["pairs"], spec["evolve"]["beta"]) == (["evolve"], "file", 0.5)
    again = client.fine_tuning.jobs.create(model=BASE, training_file=file)  # the preferred answers alone
    assert again.method is not None
    assert again.method.type == "supervised"


def test_plain_training_needs_answers(client: openai.OpenAI):
    content = b"".join(b'{"question": "What is %d?"}\n' % n for n in range(60))
    file = client.files.create(file=("bare.jsonl", content), purpose="fine-tune").id
    with pytest.raises(openai.BadRequestError, match="a teacher answers") as refused:
        client.fine_tuning.jobs.create(model=BASE, training_file=file)
    assert (refused.value.code, refused.value.param) == ("no_references", "training_file")


def test_a_distillation_object_makes_it_our_job(client: openai.OpenAI, dataset: str):
    made = client.fine_tuning.jobs.create(
        model=BASE, training_file=dataset, extra_body={"distillation": {"domain": "sums"}}
    )
    assert extra(made)["distillation"]["phases"] == ["distill", "iterate", "evolve"]
    assert made.method is None


def test_pause_resume_cancel(client: openai.OpenAI, job: str):
    assert client.fine_tuning.jobs.pause(job).status == "paused"
    assert client.fine_tuning.jobs.resume(job).status == "queued"
    assert client.fine_tuning.jobs.cancel(job).status == "cancelled"
    with pytest.raises(openai.ConflictError) as refused:
        client.fine_tuning.jobs.resume(job)
    assert refused.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("route", ["distillation", "fine_tuning"])
@pytest.mark.parametrize(
    "spec", [None, {"domain": "sums", "adapter": {"method": "lora", "rank": 4}, "phases": ["iterate"]}]
)
def test_a_job_read_back_can_be_posted_again(http: httpx.Client, api: RunningApi, dataset: str, route: str, spec: Any):
    body = {"model": BASE, "training_file": dataset, "seed": 3, "hyperparameters": {"n_epochs": 2}}
    first = http.post("/v1/fine_tuning/jobs", json=body | ({"distillation": spec} if spec else {})).json()
    again = http.post(f"/v1/{route}/jobs", json=http.get(f"/v1/fine_tuning/jobs/{first['id']}").json())
    assert again.status_code == 201, again.text
    one, other = (api.stores.jobs.get(posted["id"]) for posted in (first, again.json()))
    assert one is not None
    assert other is not None
    assert one.request == other.request


def test_what_a_job_says_of_itself_is_no_request(http: httpx.Client, dataset: str):
    """Only a whole object is read so; elsewhere these fields are unknown ones."""
    for body in ({"status": "queued"}, {"distillation": {"domain": "sums", "usage": {}}}):
        answer = http.post("/v1/fine_tuning/jobs", json={"model": BASE, "training_file": dataset} | body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_parameter")


def test_everything_that_a_job_says_is_known():
    said = set(JobObject.model_fields) - set(JobRequest.model_fields)
    assert said == set(SAID)
    assert set(JobDistillation.model_fields) - set(Distillation.model_fields) == set(SAID_OF_DISTILLATION)
    assert set(JobRequest.model_fields) <= set(FineTuningRequest.model_fields)


def test_pages_of_250_jobs(api: RunningApi, client: openai.OpenAI, dataset: str):
    request = FineTuningRequest(model=BASE, training_file=dataset, metadata={"pages": "yes"}).job()
    made = [row.id for row in api.stores.jobs.create_all(DEFAULT_PROJECT, [request] * MANY)]
    listed = [job.id for job in client.fine_tuning.jobs.list(metadata={"pages": "yes"}, limit=50)]
    assert listed == sorted(made, reverse=True)
    page = client.fine_tuning.jobs.list(metadata={"pages": "yes"}, limit=100)
    assert (len(page.data), page.has_more) == (100, True)


def finished_training(api: RunningApi, job_id: str, key: str, kind: StepKind, adapter: str, steps: int) -> None:
    row = api.stores.jobs.get(job_id)
    assert row is not None
    step = api.stores.steps.create(row, StepKey.parse(key), kind, f"{len(key):064d}")
    claim = api.stores.steps.claim(step.id, "worker", 60)
    assert claim is not None
    result = StepResult(rows=[], metrics={}, adapter=adapter)
    reference = Artifacts(api.platform.artifacts).put_json(result.model_dump(mode="json"))
    assert api.stores.steps.finish(claim, reference, {"steps": steps, "loss": 0.5})


def test_checkpoints_and_metrics(api: RunningApi, client: openai.OpenAI, http: httpx.Client, job: str):
    assert client.fine_tuning.jobs.checkpoints.list(job).data == []
    finished_training(api, job, "evaluate/sft/train", StepKind.SFT, "e" * 64, 9)
    finished_training(api, job, "distill/train", StepKind.SFT, "d" * 64, 10)
    finished_training(api, job, "evolve/1/train", StepKind.DPO, ADAPTER, 5)
    for adapter, state in (("d" * 64, "rejected"), (ADAPTER, "promoted")):
        ref = ModelRef(base=BASE, base_hash="b", adapter=adapter)
        api.stores.catalog.publish(DEFAULT_PROJECT, "steps", ref, job, state)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job, limit=1))  # two pages
    assert [(c.fine_tuned_model_checkpoint, c.step_number, c.metrics.step) for c in checkpoints] == [
        ("steps@2", 15, 5),
        ("steps@1", 10, 10),
    ]
    assert checkpoints[0].metrics.train_loss == 0.5
    assert extra(checkpoints[0]) == {"step": "evolve/1/train", "state": "promoted"}
    for prefix in ("distillation", "fine_tuning"):
        metrics = http.get(f"/v1/{prefix}/jobs/{job}/metrics", params={"limit": 2}).json()
        assert [(m["step"], m["values"]["steps"]) for m in metrics["data"]] == [
            ("evolve/1/train", 5),
            ("distill/train", 10),
        ]
        rest = http.get(f"/v1/{prefix}/jobs/{job}/metrics", params={"after": metrics["last_id"]}).json()
        assert ([m["step"] for m in rest["data"]], rest["has_more"]) == (["evaluate/sft/train"], False)
    unknown = http.get(f"/v1/fine_tuning/jobs/{job}/checkpoints", params={"after": "ftckpt-0"}).json()
    assert unknown["error"]["code"] == "unknown_cursor"


def test_examples_and_the_other_looks_under_both_names(http: httpx.Client, job: str):
    for prefix in ("distillation", "fine_tuning"):
        first = http.get(f"/v1/{prefix}/jobs/{job}/examples", params={"limit": 3}).json()
        assert "data" in first, first
        assert [row["id"] for row in first["data"]] == ["row-1", "row-2", "row-3"]
        rest = http.get(f"/v1/{prefix}/jobs/{job}/examples", params={"after": "row-3", "limit": 100}).json()
        assert (len(rest["data"]), rest["has_more"]) == (57, False)
        dev = http.get(f"/v1/{prefix}/jobs/{job}/examples", params={"split": "dev"}).json()["data"]
        assert {row["split"] for row in dev} == {"dev"}
        assert http.get(f"/v1/{prefix}/jobs/{job}/examples/row-1/lineage").json()["chain"] == []
        assert http.get(f"/v1/{prefix}/jobs/{job}/usage").json()["total"]["teacher_calls"] == 0
        assert http.get(f"/v1/{prefix}/jobs/{job}/report").json()["error"]["code"] == "report_not_ready"
        budget = {"distillation": {"budget": {"max_calls": 5}}}
        assert http.patch(f"/v1/{prefix}/jobs/{job}", json=budget).json()["distillation"]["budget"]["max_calls"] == 5
        fork = http.post(f"/v1/{prefix}/jobs/{job}/fork", json={"changes": {"seed": 4}})
        assert fork.headers["location"] == f"/v1/{prefix}/jobs/{fork.json()['id']}"


@pytest.mark.parametrize("how", ["query", "prefer"])
def test_a_long_poll_ends_with_the_change(api: RunningApi, http: httpx.Client, job: str, how: str):
    row = api.stores.jobs.get(job)
    assert row is not None
    asks: dict[str, Any] = (
        {"params": {"wait": 20}} if how == "query" else {"headers": {"prefer": "respond-async, wait=20"}}
    )
    threading.Timer(0.4, api.stores.jobs.pause, [row]).start()
    began = time.monotonic()
    answer = http.get(f"/v1/fine_tuning/jobs/{job}", **asks)
    assert 0.3 < time.monotonic() - began < 15
    assert answer.json()["status"] == JobStatus.PAUSED
    assert answer.headers.get("preference-applied") == (None if how == "query" else "wait=20")


def test_a_long_poll_ends_with_its_time_and_at_once_for_an_ended_job(
    client: openai.OpenAI, http: httpx.Client, job: str
):
    began = time.monotonic()
    assert http.get(f"/v1/fine_tuning/jobs/{job}", params={"wait": 0.3}).json()["status"] == "queued"
    assert 0.3 <= time.monotonic() - began < 10
    client.fine_tuning.jobs.cancel(job)
    began = time.monotonic()
    assert http.get(f"/v1/fine_tuning/jobs/{job}", params={"wait": 30}).json()["status"] == "cancelled"
    assert time.monotonic() - began < 10
    assert http.get(f"/v1/fine_tuning/jobs/{job}", params={"wait": 61}).json()["error"]["param"] == "wait"


def test_etag_of_a_job(http: httpx.Client, job: str):
    path = f"/v1/fine_tuning/jobs/{job}"
    tag = http.get(path).headers["etag"]
    same = http.get(path, headers={"if-none-match": f'"other", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    http.post(f"{path}/pause")
    changed = http.get(path, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
