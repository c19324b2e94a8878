"""The stock openai client in all its forms: async, raw and streamed answers, chat's features, typed errors, its own retries."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import openai
import pytest
import uvicorn
from openai import pydantic_function_tool
from pydantic import BaseModel

from shared.contracts.errors import Conflict, UserError
from shared.platform.http import new_app
from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.fakes.ports import free_port, wait_until
from tests.fakes.vllm import FakeVllm


class Sum(BaseModel):
    """Adds two numbers."""

    first: int
    second: int


@pytest.fixture(scope="module")
def dataset(api: RunningApi) -> str:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY) as client:
        return client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune").id


def say(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_the_async_client(api: RunningApi):
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0) as client:
        file = await client.files.create(file=("async.jsonl", rows(60, start=9000)), purpose="fine-tune")
        jobs = client.fine_tuning.jobs
        made = await asyncio.gather(
            *(jobs.create(model=BASE, training_file=file.id, metadata={"of": "async"}) for _ in range(3))
        )
        listed = [job.id async for job in jobs.list(limit=1, metadata={"of": "async"})]
        assert sorted(listed) == sorted(job.id for job in made)
        assert [event.message async for event in jobs.list_events(listed[0], limit=1)][-1] == "job created and queued"
        assert [checkpoint async for checkpoint in jobs.checkpoints.list(listed[0])] == []
        assert (await jobs.cancel(listed[0])).status == "cancelled"
        with pytest.raises(openai.ConflictError):
            await jobs.cancel(listed[0])
        stream = await client.chat.completions.create(model=BASE, messages=say("hello"), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == "Hello é"
        assert BASE in [model.id async for model in client.models.list()]
        for job in listed[1:]:
            await jobs.cancel(job)
        assert (await client.files.delete(file.id)).deleted


def test_raw_and_streamed_answers(client: openai.OpenAI, dataset: str):
    raw = client.files.with_raw_response.retrieve(dataset)
    assert raw.headers["x-request-id"].startswith("req-")
    assert raw.parse().id == dataset
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    with client.files.with_streaming_response.content(dataset) as content:
        assert b"".join(content.iter_bytes()) == rows(60)
    with client.chat.completions.with_streaming_response.create(
        model=BASE, messages=say("hello"), stream=True
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert list(answer.iter_lines())[-2:] == ["data: [DONE]", ""]


def test_tools(client: openai.OpenAI, engine: FakeVllm):
    tool = pydantic_function_tool(Sum, name="add")
    answer = client.chat.completions.create(model=BASE, messages=say("add"), tools=[tool], tool_choice="auto")
    assert engine.last["tools"][0]["function"]["name"] == "add"
    assert engine.last["tool_choice"] == "auto"
    assert answer.choices[0].finish_reason == "tool_calls"
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    assert call.function.name == "add"
    turns = [
        *say("add"),
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "3"},
    ]
    assert client.chat.completions.create(model=BASE, messages=cast(Any, turns)).choices[0].message.content == "3"
    assert engine.last["messages"][-1]["tool_call_id"] == call.id


def test_structured_output(client: openai.OpenAI, engine: FakeVllm):
    answer = client.chat.completions.parse(model=BASE, messages=say('{"first": 1, "second": 2}'), response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(first=1, second=2)
    sent = engine.last["response_format"]
    assert (sent["type"], sorted(sent["json_schema"]["schema"]["properties"])) == ("json_schema", ["first", "second"])


def test_logprobs(client: openai.OpenAI, engine: FakeVllm):
    answer = client.chat.completions.create(model=BASE, messages=say("hi"), logprobs=True, top_logprobs=2)
    assert (engine.last["logprobs"], engine.last["top_logprobs"]) == (True, 2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert [(entry.token, entry.logprob) for entry in logprobs.content or []] == [("hi", -0.25)]


def test_models(client: openai.OpenAI):
    assert client.models.retrieve(BASE).object == "model"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody", messages=say("hello"))
    assert unknown.value.code == "model_not_found"


# typed errors


def key_for(http: httpx.Client, scopes: list[str], **limits: int) -> str:
    body: dict[str, Any] = {"name": "k", "scopes": scopes}
    if limits:
        body["project"] = http.post("/v1/projects", json={"name": "limited", "limits": limits}).json()["id"]
    return http.post("/v1/keys", json=body).json()["key"]


def as_caller(client: openai.OpenAI, key: str) -> openai.OpenAI:
    return client.with_options(api_key=key, max_retries=0)


def reuse_a_key(client: openai.OpenAI, http: httpx.Client, file: str) -> None:
    for seed in (1, 2):
        client.fine_tuning.jobs.create(
            model=BASE, training_file=file, seed=seed, extra_headers={"idempotency-key": "typed-errors"}
        )


def use_up_the_minute(client: openai.OpenAI, http: httpx.Client, file: str) -> None:
    limited = as_caller(client, key_for(http, ["files"], requests_per_minute=1))
    for _ in range(3):  # a new minute may begin in between, but not twice
        limited.files.list()


Fails = Callable[[openai.OpenAI, httpx.Client, str], Any]
ERRORS: list[tuple[type[openai.APIStatusError], int, str, str, Fails]] = [
    (openai.BadRequestError, 400, "invalid_request_error", "model_not_found",
     lambda client, http, file: client.fine_tuning.jobs.create(model="nobody", training_file=file)),
    (openai.AuthenticationError, 401, "authentication_error", "invalid_api_key",
     lambda client, http, file: as_caller(client, "wrong").models.list()),
    (openai.PermissionDeniedError, 403, "permission_error", "missing_scope",
     lambda client, http, file: as_caller(client, key_for(http, ["chat"])).files.list()),
    (openai.NotFoundError, 404, "not_found_error", "job_not_found",
     lambda client, http, file: client.fine_tuning.jobs.retrieve("ftjob-nobody")),
    (openai.ConflictError, 409, "conflict_error", "job_queued",
     lambda client, http, file: client.fine_tuning.jobs.resume(
         client.fine_tuning.jobs.create(model=BASE, training_file=file).id)),
    (openai.UnprocessableEntityError, 422, "invalid_request_error", "idempotency_key_reused", reuse_a_key),
    (openai.RateLimitError, 429, "rate_limit_error", "rate_limit_exceeded", use_up_the_minute),
    (openai.InternalServerError, 503, "server_error", "gateway_unavailable",
     lambda client, http, file: client.post(
         "/fine_tuning/jobs/estimate", body={"model": BASE, "training_file": file}, cast_to=object)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "type_", "code", "fails"), ERRORS, ids=[row[0].__name__ for row in ERRORS])
def test_every_class_of_error(
    client: openai.OpenAI,
    http: httpx.Client,
    dataset: str,
    kind: type[openai.APIStatusError],
    status: int,
    type_: str,
    code: str,
    fails: Fails,
):
    with pytest.raises(openai.APIStatusError) as raised:
        fails(client, http, dataset)
    error = raised.value
    assert type(error) is kind, error
    assert (error.status_code, error.type, error.code) == (status, type_, code)
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id
    assert error.response.headers.get("x-should-retry") == ("false" if status == 409 else None)
    assert ("retry-after" in error.response.headers) == (status in (429, 503))


# the client's own retries


def test_a_conflict_is_sent_once(api: RunningApi, http: httpx.Client, dataset: str):
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY) as client:  # it retries twice by itself
        job = client.fine_tuning.jobs.create(model=BASE, training_file=dataset).id
        client.fine_tuning.jobs.cancel(job)
        with pytest.raises(openai.ConflictError):
            client.fine_tuning.jobs.cancel(job)
    log = http.get("/v1/audit", params={"limit": 20}).json()["data"]
    assert Counter(entry["status"] for entry in log if entry["object_id"] == job) == {201: 1, 200: 1, 409: 1}


class Busy(UserError):
    status = 429
    code = "busy"
    retry_after_s = 1


@contextmanager
def busy_server(asked: list[float]) -> Generator[str]:
    """A server with our error forms that is too busy for the first request of each path."""
    app = new_app("busy", "busy")

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise Busy("too many") if name == "busy" else Conflict("not in this state")
        return {"id": name, "object": "model", "created": 1, "owned_by": "us"}

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 60, "the busy server")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(10)


def test_a_429_is_sent_again_after_retry_after():
    asked: list[float] = []
    with busy_server(asked) as url, openai.OpenAI(base_url=url, api_key="k") as client:
        assert client.models.retrieve("busy").id == "busy"
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 1.0
    asked.clear()
    with (
        busy_server(asked) as url,
        openai.OpenAI(base_url=url, api_key="k") as client,
        pytest.raises(openai.ConflictError),
    ):
        client.models.retrieve("taken")
    assert len(asked) == 1


def test_a_stream_of_events_by_the_stock_client(client: openai.OpenAI, dataset: str):
    job = client.fine_tuning.jobs.create(model=BASE, training_file=dataset).id
    client.fine_tuning.jobs.cancel(job)
    with client.fine_tuning.jobs.with_streaming_response.list_events(
        job, extra_headers={"accept": "text/event-stream"}
    ) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event.get("message", event.get("status")) for event in events] == [
        "job created and queued",
        "job cancelled",
        "cancelled",
    ]
