"""The chat proxy's other routes, and what becomes of the engine's work when callers leave."""

from typing import Any

import httpx
import openai
import pytest

from shared.contracts.answer_format import SYSTEM
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, RunningApi, publish_version
from tests.fakes.ports import wait_until
from tests.fakes.vllm import FakeVllm

ASK: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def expert(api: RunningApi) -> str:
    """An alias that is served, and whose adapter the engine has."""
    model = publish_version(api, "writer", ADAPTER)
    api.stores.catalog.serve(DEFAULT_PROJECT, model)
    return "writer"


def test_completions(client: openai.OpenAI, engine: FakeVllm, expert: str):
    answer = client.completions.create(model=expert, prompt="abcd", max_tokens=4, extra_body={"min_p": 0.1})
    assert (answer.model, answer.choices[0].text) == (expert, "abcd")
    assert engine.last == {"model": ADAPTER, "prompt": "abcd", "max_tokens": 4, "min_p": 0.1}
    parts = list(client.completions.create(model=expert, prompt="abcd", stream=True))
    assert {part.model for part in parts} == {expert}
    assert "".join(part.choices[0].text for part in parts) == "abcd"


def test_responses(client: openai.OpenAI, engine: FakeVllm, expert: str):
    answer = client.responses.create(model=expert, input="abcd")
    assert (answer.model, answer.output_text) == (expert, "abcd")
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "abcd"}]
    assert engine.last == {"model": ADAPTER, "messages": messages, "temperature": 0.0}
    with client.responses.stream(model=expert, input=[{"role": "user", "content": "abcd"}]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["Hel", "lo é"]
    assert (final.model, final.output_text) == (expert, "Hello é")
    assert ADAPTER not in str(events)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "a", "priority": -1}, "priority"),
        ("/v1/completions", {"prompt": "a", "n": 1000}, "n"),
        ("/v1/responses", {"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
        ("/v1/responses", {"input": []}, "input"),
        ("/v1/chat/completions", {"messages": ASK, "top_k": 10**20}, "top_k"),
        ("/v1/chat/completions", {"messages": ASK, "stop": [1]}, "stop"),
    ],
)
def test_what_is_refused_is_named(http: httpx.Client, path: str, body: dict[str, Any], param: str):
    answer = http.post(path, json={"model": BASE} | body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].split(".")[0] == param


def test_bad_answers_of_the_engine_have_one_shape_on_all_routes(http: httpx.Client, expert: str):
    for path, asked in (("completions", {"prompt": "refuse"}), ("responses", {"input": "refuse"})):
        refused = http.post(f"/v1/{path}", json={"model": expert} | asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
        missing = http.post(f"/v1/{path}", json={"model": "nobody"} | asked)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_a_route_that_the_engine_lacks_is_said_to_be_missing(http: httpx.Client, engine: FakeVllm):
    engine.routes.discard("/v1/completions")
    try:
        answer = http.post("/v1/completions", json={"model": BASE, "prompt": "hello"})
    finally:
        engine.routes.add("/v1/completions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unsupported_route")


def test_a_number_that_is_none_is_refused(http: httpx.Client):
    form = '{"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "number", "minimum": NaN}}}'
    body = f'{{"model": "{BASE}", "messages": [{{"role": "user", "content": "hello"}}], "response_format": {form}}}'
    answer = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_client_that_leaves_in_mid_stream_stops_the_engine(http: httpx.Client, engine: FakeVllm, expert: str):
    waiting, left = engine.waiting, engine.left
    body = {"model": expert, "messages": [{"role": "user", "content": "trickle"}], "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert '"Hel"' in next(lines)
        assert (engine.waiting, engine.left) == (waiting + 1, left)
    wait_until(lambda: engine.left == left + 1, 60, "the end of the engine's work")
