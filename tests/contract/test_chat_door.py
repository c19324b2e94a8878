"""The chat's door: what clients send, what reaches the engine, and what they are told. One line a case."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from shared.contracts.answer_format import SYSTEM
from shared.contracts.generation import Generation
from shared.db.engine import writing
from shared.jobs.tables import DEFAULT_PROJECT, models
from tests.contract.conftest import ADAPTER, BASE, RunningApi, publish_version
from tests.fakes.vllm import CONTEXT, FakeVllm

CHAT = "/v1/chat/completions"
ASK: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}},
    "required": ["city"],
    "$defs": {"city": {"type": "string", "maxLength": 9}},
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
NAMED = {"type": "function", "function": {"name": "weather"}}
HELD = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}


def ask(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post(CHAT, json={"model": BASE, "messages": ASK} | fields)


# what a version was evaluated with


@pytest.fixture(scope="module")
def expert(api: RunningApi) -> str:
    """A served version that was evaluated with answers of at most 17 tokens."""
    model = publish_version(api, "evaluated", ADAPTER)
    with writing(api.stores.jobs.engine) as connection:
        evaluated = Generation(max_tokens=17).model_dump()
        connection.execute(models.update().where(models.c.id == model.id).values(generation=evaluated))
    api.stores.catalog.serve(DEFAULT_PROJECT, model)
    return "evaluated"


def test_a_version_is_served_as_it_was_evaluated_and_says_so(client: openai.OpenAI, engine: FakeVllm, expert: str):
    shown = (client.models.retrieve(expert).model_extra or {})["generation"]
    assert shown == {"temperature": 0.0, "top_p": 1.0, "max_tokens": 17, "stop": [], "system": SYSTEM}
    client.chat.completions.create(model=expert, messages=[{"role": "user", "content": "hello"}])
    assert (engine.last["temperature"], engine.last["max_tokens"]) == (0.0, 17)
    client.chat.completions.create(
        model=expert, messages=[{"role": "user", "content": "hello"}], temperature=1, max_completion_tokens=99
    )
    assert (engine.last["temperature"], engine.last["max_completion_tokens"]) == (1, 99)
    assert "max_tokens" not in engine.last
    client.responses.create(model=expert, input="hello")
    assert (engine.last["temperature"], engine.last["max_tokens"]) == (0.0, 17)
    client.completions.create(model=expert, prompt="hello")
    assert engine.last["temperature"] == 0.0


def test_a_version_of_before_is_served_greedily(api: RunningApi, client: openai.OpenAI, engine: FakeVllm):
    publish_version(api, "older", ADAPTER)
    client.chat.completions.create(model="older@1", messages=[{"role": "user", "content": "hello"}])
    assert engine.last["temperature"] == 0.0
    assert "max_tokens" not in engine.last


# fields

HARMLESS: list[tuple[str, Any]] = [
    ("metadata", {"a": "b"}), ("service_tier", "auto"), ("service_tier", "flex"),
    ("prompt_cache_key", "k"), ("prompt_cache_retention", "24h"), ("verbosity", "low"), ("modalities", ["text"]),
    ("prediction", {"type": "content", "content": "x"}), ("parallel_tool_calls", True), ("reasoning_effort", "low"),
    ("stream_options", {"include_usage": True}), ("web_search_options", {}), ("colour", "red"), ("enable_thinking", True),
    ("moderation", {"model": "omni"}), ("max_tool_calls", 3), ("extra_headers", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_a_harmless_field_is_ignored_and_named(http: httpx.Client, engine: FakeVllm, name: str, value: Any):
    answer = ask(http, **{name: value})
    assert answer.status_code == 200, answer.text
    assert name not in engine.last
    if value != {}:
        assert answer.headers["x-meteor-ignored"] == name
    assert "x-meteor-ignored" not in ask(http, **{name: None}).headers, "null is no value"


SILENT: list[dict[str, Any]] = [
    {"user": "me"}, {"safety_identifier": "me"}, {"temperature": 1}, {"stop": None}, {"stop": []}, {"stop": ""}, {"tools": []},
    {"tools": None, "tool_choice": None}, {"tool_choice": "auto"}, {"logprobs": False, "top_logprobs": 0}, {"n": 1},
    {"max_tokens": 16.0}, {"seed": 7.0}, {"logit_bias": {}}, {"response_format": {"type": "text"}}, {"functions": []},
    {"ignore_eos": None, "bad_words": None, "min_tokens": None, "skip_special_tokens": None}, {"best_of": 1},
    {"chat_template_kwargs": {}}, {"audio": None, "web_search_options": None}, {"store": False},
    {"store": True, "metadata": {"a": "b"}},
]  # fmt: skip


@pytest.mark.parametrize("fields", SILENT, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_client_library_sends_without_a_thought_is_taken(
    http: httpx.Client, engine: FakeVllm, fields: dict[str, Any], stream: bool
):
    answer = ask(http, **fields, **({"stream": True} if stream else {}))
    assert answer.status_code == 200, answer.text
    assert "x-meteor-ignored" not in answer.headers
    assert None not in engine.last.values()


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"audio": {"voice": "x"}}, "unsupported_parameter", "audio", "read and write text"),
    ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities", "read and write text"),
    ({"web_search_options": {"a": 1}}, "unsupported_parameter", "web_search_options", "offer a tool"),
    ({"best_of": 3}, "unsupported_parameter", "best_of", "ask for n answers"),
    ({"guided_json": {"a": 1}}, "unsupported_parameter", "guided_json", "response_format"),
    ({"chat_template": "x"}, "unknown_parameter", "chat_template", "belongs to the base"),
    ({"chat_template_kwargs": {"tokenize": False}}, "unsupported_parameter", "chat_template_kwargs.tokenize", "renderer"),
    ({"top_logprobs": 3}, "invalid_value", "top_logprobs", "logprobs: true"),
    ({"tool_choice": "required"}, "invalid_value", "tool_choice", "there are no tools"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "invalid_value", "tool_choice",
     "the tools are weather"),
    ({"tools": [{"type": "web_search"}]}, "invalid_value", "tools.0.type", "function"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_value", "tools.0.function.name", "pattern"),
    ({"messages": [*ASK, {"role": "robot", "content": "x"}]}, "invalid_value", "messages.1.role", "'user', 'assistant'"),
    ({"messages": [*ASK, {"role": "user"}]}, "invalid_value", "messages.1", "needs content"),
    ({"messages": [*ASK, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "invalid_value", "messages.1.content", "not 'image_url'"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
     "invalid_value", "messages.0.content", "no pictures, sound"),
    ({"messages": [{"role": "user", "content": "word " * (CONTEXT + 1)}]}, "context_length_exceeded", "messages",
     "METEOR_ENGINE_MAX_MODEL_LEN"),
    ({"max_tokens": 0}, "invalid_value", "max_tokens", "greater than or equal to 1"),
    ({"temperature": "hot"}, "invalid_value", "temperature", "number"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "code", "param", "words"), REFUSED, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_in_our_words(
    http: httpx.Client, fields: dict[str, Any], code: str, param: str, words: str, stream: bool
):
    answer = ask(http, **fields, stream=stream)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error"), error
    assert words in error["message"]
    assert "validation error" not in error["message"]
    assert "--" not in error["message"], "no flags of the engine"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_more_tokens_than_the_context_holds_are_clamped_and_that_is_said(
    http: httpx.Client, engine: FakeVllm, name: str, stream: bool
):
    answer = ask(http, **{name: 100_000}, stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-meteor-clamped"] == name
    assert name not in engine.last, "the engine fills its context then"
    assert "x-meteor-clamped" not in ask(http, **{name: 10}).headers
    longer = http.post("/v1/responses", json={"model": BASE, "input": "hello", "max_output_tokens": 100_000})
    assert longer.headers["x-meteor-clamped"] == "max_output_tokens"


def test_several_answers_of_greedy_decoding_are_one_answer_several_times(client: openai.OpenAI, engine: FakeVllm):
    answer = client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "hi"}], n=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, "hi"), (1, "hi")]
    assert "n" not in engine.last
    chunks = client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "hi"}], n=2, stream=True)
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "Hello é", 1: "Hello é"}
    sampled = client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "hi"}], n=2, temperature=1
    )
    assert (len(sampled.choices), engine.last["n"]) == (2, 2)


# messages

ECHOED = {"role": "assistant", "content": "4", "refusal": None, "annotations": [], "audio": None, "function_call": None,
          "tool_calls": None, "reasoning_content": "It is 4."}  # fmt: skip
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
MESSAGES: list[tuple[str, list[dict[str, Any]], list[tuple[str, str]]]] = [
    ("developer", [{"role": "developer", "content": "Be brief."}, *ASK], [("system", "Be brief."), ("user", "hello")]),
    ("parts", [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
     [("system", SYSTEM), ("user", "a\nb")]),
    ("echoed", [*ASK, ECHOED, *ASK], [("system", SYSTEM), ("user", "hello"), ("assistant", "4"), ("user", "hello")]),
    ("named", [{"role": "user", "content": "hello", "name": "bo"}], [("system", SYSTEM), ("user", "hello")]),
    ("a result", [*ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                  {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sun"}]}],
     [("system", SYSTEM), ("user", "hello"), ("assistant", ""), ("tool", "sun")]),
    ("an old result", [*ASK, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                       {"role": "function", "name": "f", "content": "sun"}],
     [("system", SYSTEM), ("user", "hello"), ("assistant", ""), ("tool", "sun")]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "sent"), [pytest.param(*case[1:], id=case[0]) for case in MESSAGES])
def test_messages_of_every_kind(
    http: httpx.Client, engine: FakeVllm, given: list[dict[str, Any]], sent: list[tuple[str, str]]
):
    answer = ask(http, messages=given)
    assert answer.status_code == 200, answer.text
    assert [(message["role"], message["content"]) for message in engine.last["messages"]] == sent


# tools


@pytest.fixture(params=[True, False], ids=["parser", "no parser"])
def parser(engine: FakeVllm, request: pytest.FixtureRequest) -> Iterator[bool]:
    engine.tool_parser = request.param
    yield request.param
    engine.tool_parser = True


def test_auto_is_a_call_where_the_engine_has_a_parser_and_text_where_not(
    client: openai.OpenAI, engine: FakeVllm, parser: bool
):
    asked: Any = {"model": BASE, "messages": [{"role": "user", "content": "hello"}], "tools": [WEATHER]}
    answer = client.chat.completions.create(**asked).choices[0]
    assert (answer.finish_reason, answer.message.content) == (("tool_calls", None) if parser else ("stop", "hello"))
    streamed = list(client.chat.completions.create(**asked, stream=True))
    assert any(chunk.choices[0].delta.tool_calls for chunk in streamed) == parser
    response = client.responses.create(
        model=BASE, input="hello", tools=[{"type": "function", "name": "weather", "parameters": {}, "strict": False}]
    )
    assert [item.type for item in response.output] == ["function_call" if parser else "message"]


REQUIRED: list[tuple[str, dict[str, Any], str, str]] = [
    ("one tool", {"tools": [WEATHER], "tool_choice": "required"}, "weather", "tool_calls"),
    ("several", {"tools": [CLOCK, WEATHER], "tool_choice": "required"}, "clock", "tool_calls"),
    ("named", {"tools": [CLOCK, WEATHER], "tool_choice": NAMED}, "weather", "stop"),
    ("without arguments", {"tools": [CLOCK], "tool_choice": "required"}, "clock", "tool_calls"),
    ("allowed", {"tools": [CLOCK, WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [NAMED]}}}, "weather", "tool_calls"),
    ("beside a schema", {"tools": [WEATHER], "tool_choice": "required", "response_format": HELD}, "weather", "tool_calls"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "name", "reason"), [pytest.param(*case[1:], id=case[0]) for case in REQUIRED])
def test_a_required_call_comes_whatever_the_engine_can(
    client: openai.OpenAI, engine: FakeVllm, parser: bool, fields: dict[str, Any], name: str, reason: str
):
    asked: Any = {"model": BASE, "messages": [{"role": "user", "content": "Rome?"}]} | fields
    choice = client.chat.completions.create(**asked).choices[0]
    assert "tools" not in engine.last
    assert engine.last["response_format"]["type"] == "json_schema"
    assert name in engine.last["messages"][0]["content"]
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, choice.finish_reason, choice.message.content) == (name, reason, None)
    assert call.id.startswith("call_")
    assert set(json.loads(call.function.arguments)) == ({"city"} if name == "weather" else set())
    deltas = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    parts = [part for delta in deltas for part in delta.delta.tool_calls or []]
    assert [part.function.name for part in parts if part.function and part.function.name] == [name]
    assert "".join(part.function.arguments or "" for part in parts if part.function) == call.function.arguments
    assert deltas[-1].finish_reason == reason
    assert not any(delta.delta.content for delta in deltas)


def test_responses_answer_a_required_call_with_a_call(client: openai.OpenAI, parser: bool):
    tool: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
    asked: Any = {"model": BASE, "input": "Rome?", "tools": [tool], "tool_choice": "required"}
    response = client.responses.create(**asked)
    (item,) = response.output
    assert item.type == "function_call"
    assert (item.name, set(json.loads(item.arguments)), response.status) == ("weather", {"city"}, "completed")
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response().output[0]
    assert final.type == "function_call"
    assert final.arguments == item.arguments
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert "response.function_call_arguments.delta" in kinds
    back: Any = [
        {"role": "user", "content": "Rome?"},
        item.to_dict(),
        {"type": "function_call_output", "call_id": item.call_id, "output": "sun"},
    ]
    assert client.responses.create(model=BASE, input=back, tools=[tool]).status == "completed"


def test_functions_of_old_are_answered_as_they_were(http: httpx.Client):
    old = {"functions": [WEATHER["function"]], "function_call": {"name": "weather"}}
    message = ask(http, **old).json()["choices"][0]["message"]
    assert message["function_call"]["name"] == "weather"
    assert "tool_calls" not in message


RESPONSES_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"background": True}, "background"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"tools": [{"type": "web_search_preview"}]}, "tools.0.type"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools.0.type"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
    ({"input": "word " * (CONTEXT + 1)}, "input"),
]


@pytest.mark.parametrize(("fields", "param"), RESPONSES_REFUSED, ids=str)
def test_what_responses_cannot_do_they_refuse(http: httpx.Client, fields: dict[str, Any], param: str):
    answer = http.post("/v1/responses", json={"model": BASE, "input": "hello"} | fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_response_ignores_what_is_harmless_and_is_not_kept(http: httpx.Client):
    harmless = {"store": True, "service_tier": "auto", "text": {"format": {"type": "text"}, "verbosity": "low"}}
    kept = {"metadata": {"a": "b"}, "include": ["message.output_text.logprobs"], "max_output_tokens": 9}
    answer = http.post("/v1/responses", json={"model": BASE, "input": "hello"} | harmless | kept)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-meteor-ignored"] == "service_tier, store, text.verbosity"
    body = answer.json()
    assert (body["store"], body["metadata"], body["max_output_tokens"]) == (False, {"a": "b"}, 9)
    missing = http.get(f"/v1/responses/{body['id']}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "response_not_found")
