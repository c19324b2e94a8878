"""An unmodified openai client works with base_url alone."""

import json
import threading
import time
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from services.api.features.jobs.service import UNCHECKED
from shared.artifacts.store import Artifacts
from shared.contracts.answer_format import SYSTEM
from shared.contracts.jobs import JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind
from shared.db.engine import writing
from shared.jobs.tables import DEFAULT_PROJECT, jobs
from shared.ledger.store import CallOrigin, Cost, open_ledger
from tests.contract.conftest import ADAPTER, BASE, RunningApi, rows
from tests.fakes.ports import wait_until
from tests.fakes.vllm import FakeVllm


def extra(model: BaseModel) -> dict[str, Any]:
    """The fields that are ours and that the client keeps beside its own."""
    return model.model_extra or {}


@pytest.fixture
def dataset(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune").id


@pytest.fixture
def job(http: httpx.Client, dataset: str) -> str:
    body = {"model": BASE, "training_file": dataset, "distillation": {"domain": "sums"}, "metadata": {"team": "a.b"}}
    answer = http.post("/v1/distillation/jobs", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/distillation/jobs/{answer.json()['id']}"
    return answer.json()["id"]


@pytest.fixture
def published(api: RunningApi, job: str) -> str:
    """A served alias whose adapter the engine has."""
    catalog = api.stores.catalog
    model = catalog.publish(
        DEFAULT_PROJECT, "expert", ModelRef(base=BASE, base_hash="b", adapter=ADAPTER), job, "promoted"
    )
    catalog.serve(DEFAULT_PROJECT, model)
    return f"expert@{model.version}"


def test_promote_and_roll_back_move_the_alias(api: RunningApi, http: httpx.Client, job: str):
    catalog, ref = api.stores.catalog, ModelRef(base=BASE, base_hash="b", adapter=ADAPTER)
    states = ["promoted", "undecided", "promoted"]
    refs = [ref, *(ref.model_copy(update={"adapter": digit * 64}) for digit in "bc")]
    models = [
        catalog.publish(DEFAULT_PROJECT, "mover", version, job, state)
        for version, state in zip(refs, states, strict=True)
    ]
    catalog.serve(DEFAULT_PROJECT, models[-1])
    answer = http.post("/v1/models/mover/rollback")
    assert (answer.status_code, answer.json()["id"], answer.json()["version"]) == (200, "mover", 1)
    assert http.get("/v1/models/mover").json()["version"] == 1
    again = http.post("/v1/models/mover/rollback")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "nothing_to_roll_back_to")
    assert http.post("/v1/models/mover@2/promote").json()["version"] == 2
    assert http.get("/v1/models/mover").json()["version"] == 2
    assert http.post("/v1/models/mover/promote").json()["error"]["code"] == "version_missing"
    assert http.post("/v1/models/mover@9/promote").status_code == 404
    assert http.post("/v1/models/nobody/rollback").json()["error"]["code"] == "model_not_found"


def test_files_live_and_die(client: openai.OpenAI):
    content = rows(60)
    made = client.files.create(file=("../sums é.jsonl", content), purpose="fine-tune")
    assert (made.status, made.filename, made.bytes) == ("processed", "sums é.jsonl", len(content))
    splits = extra(made)["splits"]
    assert sum(splits.values()) == extra(made)["n_rows"] == 60
    assert min(splits.values()) >= 2
    assert client.files.retrieve(made.id) == made
    assert made.id in [file.id for file in client.files.list(limit=1)]  # the client follows the cursor
    assert client.files.content(made.id).read() == content
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        client.files.retrieve(made.id)
    assert gone.value.code == "file_not_found"


def test_same_content_twice_outlives_one_deletion(client: openai.OpenAI):
    content = rows(30, start=1000)
    first, second = (client.files.create(file=("a.jsonl", content), purpose="fine-tune") for _ in range(2))
    client.files.delete(first.id)
    assert client.files.content(second.id).read() == content


def test_a_file_that_a_job_needs_stays(client: openai.OpenAI, dataset: str, job: str):
    with pytest.raises(openai.ConflictError) as refused:
        client.files.delete(dataset)
    assert refused.value.code == "file_in_use"
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_rows_carry_their_split(api: RunningApi, client: openai.OpenAI):
    made = client.files.create(file=("rows.jsonl", rows(20)), purpose="fine-tune")

    row = api.stores.catalog.file(DEFAULT_PROJECT, made.id)
    kept = Artifacts(api.platform.artifacts).get_json(row.rows_ref)
    assert [item["question"] for item in kept][:2] == ["What is 0 plus 0?", "What is 1 plus 1?"]
    counted = {split: sum(item["split"] == split for item in kept) for split in ("train", "dev", "test")}
    assert counted == extra(made)["splits"]


def test_jobs(client: openai.OpenAI, http: httpx.Client, job: str):
    got = client.fine_tuning.jobs.retrieve(job)
    assert (got.id, got.object, got.status, got.model) == (job, "fine_tuning.job", "queued", BASE)
    assert extra(got)["distillation"]["phases"] == ["distill", "iterate", "evolve"]
    assert extra(got)["distillation"]["usage"]["teacher_calls"] == 0
    assert job in [item.id for item in client.fine_tuning.jobs.list(limit=1)]
    assert [item.id for item in client.fine_tuning.jobs.list(metadata={"team": "a.b"}, limit=1).data] == [job]
    assert client.fine_tuning.jobs.list(metadata={"team": "nobody"}).data == []
    succeeded = http.get("/v1/distillation/jobs", params={"status": "succeeded", "limit": 100}).json()["data"]
    assert {one["status"] for one in succeeded} <= {"succeeded"}  # other tests of this process leave some
    assert job not in [one["id"] for one in succeeded]
    queued = http.get("/v1/distillation/jobs", params={"status": "queued", "limit": 100}).json()["data"]
    assert job in [one["id"] for one in queued]
    assert client.fine_tuning.jobs.cancel(job).status == "cancelled"
    with pytest.raises(openai.ConflictError) as refused:
        client.fine_tuning.jobs.cancel(job)
    assert refused.value.code == "job_finished"
    events = client.fine_tuning.jobs.list_events(job, limit=1)
    messages = [event.message for event in events]  # two pages
    assert messages == ["job cancelled", UNCHECKED, "job created and queued"]


def test_job_in_progress_shows_eta_report_usage_and_steps(api: RunningApi, http: httpx.Client, job: str):

    report = {"primary_metric": "chrf", "decision": "promoted"}
    reference = Artifacts(api.platform.artifacts).put_json(report)
    assert http.get(f"/v1/distillation/jobs/{job}/report").json()["error"]["code"] == "report_not_ready"
    values = {"progress": {"percent": 50, "eta_seconds": 100}, "phase": "distill", "report_ref": reference}
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job).values(**values))
    ledger = open_ledger(api.platform.ledger_database)
    call = ledger.begin(CallOrigin(DEFAULT_PROJECT, job, phase="distill"), "default", "teacher", "h" * 64)
    ledger.settle(call, "ok", Cost(7, 5, 0.25))
    row = api.stores.jobs.get(job)
    assert row is not None
    api.stores.steps.create(row, StepKey.parse("distill/answers/0"), StepKind.ANSWER, "c" * 64)

    got = http.get(f"/v1/distillation/jobs/{job}").json()
    assert abs(got["estimated_finish"] - time.time() - 100) < 20
    assert got["distillation"]["usage"]["usd_spent"] == 0.25
    assert http.get(f"/v1/distillation/jobs/{job}/report").json() == report
    usage = http.get(f"/v1/distillation/jobs/{job}/usage").json()
    assert usage["phases"]["distill"]["input_tokens"] == usage["total"]["input_tokens"] == 7
    steps = http.get(f"/v1/distillation/jobs/{job}/steps").json()["data"]
    assert [(step["key"], step["state"]) for step in steps] == [("distill/answers/0", "queued")]


def test_event_stream_replays_waits_and_ends(api: RunningApi, http: httpx.Client, job: str):
    headers = {"accept": "text/event-stream"}
    row = api.stores.jobs.get(job)
    assert row is not None

    def go_on():
        time.sleep(0.8)
        api.stores.jobs.add_event(row, "loss", type="metrics", data={"loss": 1.5})
        api.stores.jobs.cancel(row)

    thread = threading.Thread(target=go_on)
    thread.start()
    with http.stream("GET", f"/v1/distillation/jobs/{job}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        text = answer.read().decode()
    thread.join()
    assert text.startswith("retry: 3000\n\n")
    assert ": ping\n\n" in text
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if "id: " in block
    ]
    assert [block["event"] for block in blocks] == ["status", "message", "metrics", "status"]
    assert json.loads(blocks[2]["data"])["data"] == {"loss": 1.5}
    assert text.endswith('event: done\ndata: {"status": "cancelled"}\n\n')

    replay = http.get(f"/v1/fine_tuning/jobs/{job}/events", headers=headers | {"last-event-id": blocks[2]["id"]}).text
    assert "loss" not in replay
    assert f"id: {blocks[3]['id']}\n" in replay
    assert replay.count("event: done") == 1


def test_models(client: openai.OpenAI, published: str):
    names = [model.id for model in client.models.list()]
    assert names[0] == BASE
    assert {"expert", published} <= set(names)
    got = client.models.retrieve(published)
    assert (got.id, got.object, extra(got)["parent"]) == (published, "model", BASE)
    assert client.models.retrieve(BASE).id == BASE
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("expert@999")


def test_chat_hides_the_hash_and_parts_the_rationale(client: openai.OpenAI, engine: FakeVllm, published: str):
    for name in ("expert", published):
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "think"}], extra_body={"top_k": 5}
        )
        message = answer.choices[0].message
        assert (answer.model, message.content) == (name, "42")
        assert extra(message)["reasoning_content"] == "It is twice 21."
        assert engine.last["model"] == ADAPTER
        assert engine.last["top_k"] == 5
        assert engine.last["messages"] == [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "think"},
        ]
    assert engine.asked[-1][1] == "Bearer internal-token-of-the-tests"


def test_chat_leaves_a_given_system_text_and_a_structured_answer_alone(client: openai.OpenAI, engine: FakeVllm):
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "think"}]
    answer = client.chat.completions.create(
        model=BASE,
        messages=messages,
        response_format={"type": "json_object"},
    )
    assert engine.last["messages"] == messages
    assert answer.choices[0].message.content == "It is twice 21.\nAnswer: 42"


def test_chat_stream(client: openai.OpenAI, published: str):
    stream = client.chat.completions.create(
        model=published,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {published}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello é"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5


@pytest.mark.parametrize(("word", "code"), [("fail", "engine_error"), ("drop", "engine_unavailable")])
def test_chat_stream_that_breaks_says_so(client: openai.OpenAI, word: str, code: str):
    stream = client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": word}], stream=True)
    seen = []
    with pytest.raises(openai.APIError) as broken:
        seen += (chunk.choices[0].delta.content for chunk in stream)
    assert seen == ["", "Hel"]
    assert broken.value.code == code


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_engine(api: RunningApi, http: httpx.Client, engine: FakeVllm, stream: bool):
    waiting, left = engine.waiting, engine.left
    body = {"model": BASE, "messages": [{"role": "user", "content": "wait"}], "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=body, timeout=0.5)
    wait_until(lambda: engine.waiting == waiting + 1 and engine.left == left + 1, 60, "the end of the request")


def test_health_and_metrics(api: RunningApi, http: httpx.Client):
    assert http.get("/healthz").json() == {"status": "ok"}
    not_ready = http.get("/readyz")
    assert not_ready.status_code == 503
    assert not_ready.json()["missing"] == [f"queue:{name}" for name in ("weak", "strong", "judge", "train")]
    for name in ("weak", "strong", "judge", "train"):
        api.stores.jobs.heartbeat(f"worker-{name}", DEFAULT_PROJECT, name, name, 1)
    assert http.get("/readyz").json()["status"] == "ready"
    for name in ("weak", "strong", "judge", "train"):
        api.stores.jobs.heartbeat(f"worker-{name}", DEFAULT_PROJECT, name, name, 1, stopping=True)
    text = http.get("/metrics").text
    for status in JobStatus:
        assert f'meteor_jobs{{status="{status.value}"}}' in text
    assert "meteor_database_up 1.0" in text
