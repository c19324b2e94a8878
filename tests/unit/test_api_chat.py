"""What goes to the engine and what comes back, as pure functions."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from services.api.engine_client import error_code, nameless
from services.api.features.chat import service as chat
from services.api.features.chat import streams
from shared.contracts.answer_format import SYSTEM
from shared.contracts.chat import ChatRequest, CompletionRequest, ResponsesRequest
from shared.contracts.errors import MeteorError
from shared.jobs.tables import DEFAULT_PROJECT

HASH = "a" * 64
ASK: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
FAILED: list[MeteorError] = []
RENAME = streams.renaming(HASH, 'the "expert"')


def asked(**fields: Any) -> dict[str, Any]:
    body = ChatRequest.model_validate({"model": "expert", "messages": ASK} | fields)
    return chat.for_engine(chat.CHAT, body.sent, HASH, DEFAULT_PROJECT)


@pytest.mark.parametrize(
    ("kind", "needed"), [(ChatRequest, {"messages": ASK}), (CompletionRequest, {"prompt": "a"}), (ResponsesRequest, {"input": "a"})]
)  # fmt: skip
@pytest.mark.parametrize(
    "name",
    ["chat_template", "kv_transfer_params", "vllm_xargs", "priority", "cache_salt", "request_id", "prompt_embeds"],
)
def test_what_is_not_on_the_list_is_refused_by_its_name(kind: type, needed: dict[str, Any], name: str):
    assert kind.model_validate({"model": "m"} | needed)
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({"model": "m", name: 1} | needed)
    assert [(error["type"], error["loc"]) for error in refused.value.errors()] == [("extra_forbidden", (name,))]


def test_what_is_on_the_list_arrives_as_it_was_given():
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    given = {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
        ],
        "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 3,
        "response_format": schema, "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}},
        "temperature": 0, "top_k": 5, "min_p": 0.1, "seed": -1, "ignore_eos": True, "logit_bias": {"7": -100.0},
    }  # fmt: skip
    sent = asked(**given, stop="x", safety_identifier="me")
    assert sent == given | {"model": HASH, "stop": ["x"]}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_text_is_added_only_where_none_is(role: str):
    assert asked(top_k=3)["messages"] == [{"role": "system", "content": SYSTEM}, *ASK]
    own = [{"role": role, "content": "Be brief."}, *ASK]
    assert asked(messages=own)["messages"] == own
    assert asked(continue_final_message=True)["add_generation_prompt"] is False, "the engine refuses both"


def test_prompts_that_the_engine_keeps_serve_one_project_alone():
    body = {"model": "m", "prompt": "a"}
    salts = [
        chat.for_engine(chat.COMPLETIONS, body, "m", project).get("cache_salt") for project in ("proj_1", "proj_2")
    ]
    assert salts == ["proj_1", "proj_2"]


def test_a_response_is_never_stored_and_has_instructions():
    def sent(**fields: Any) -> dict[str, Any]:
        body = ResponsesRequest.model_validate({"model": "m", "input": "hi"} | fields)
        return chat.for_engine(chat.RESPONSES, body.sent, "m", DEFAULT_PROJECT)

    assert sent() == {"model": "m", "input": "hi", "store": False, "instructions": SYSTEM}
    assert sent(instructions="Be brief.")["instructions"] == "Be brief."
    assert "instructions" not in sent(input=[{"role": "developer", "content": "Be brief."}, *ASK])
    with pytest.raises(ValidationError):
        sent(store=True)


@pytest.mark.parametrize(
    "content", [[{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}], [{"type": "text"}], ["a"], 5]
)
def test_students_read_text_alone(content: Any):
    with pytest.raises(ValidationError) as refused:
        asked(messages=[*ASK, {"role": "user", "content": content}])
    assert refused.value.errors()[0]["loc"][:3] == ("messages", 1, "content")


def answer(text: str | None) -> bytes:
    return json.dumps({"model": HASH, "choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@pytest.mark.parametrize(
    ("text", "rationale", "content"),
    [
        ("Because.\nAnswer: 42", "Because.", "42"),
        ("Answer: 42", None, "42"),
        ("Answer: half \ud800", None, "half \ud800"),
        (" just text ", None, " just text "),
        ("The answer: 42", None, "The answer: 42"),
        ("a\nAnswer: b\nAnswer: c", "a\nAnswer: b", "c"),
        (None, None, None),
    ],
)
def test_rationale_and_answer_are_parted(text: str | None, rationale: str | None, content: str | None):
    shown = json.loads(chat.shown(chat.CHAT, answer(text), {}, RENAME))
    assert shown["model"] == 'the "expert"'
    message = shown["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (rationale, content)


def test_structured_text_is_left_alone():
    text = '{"a": "x\nAnswer: y"}'
    for form, parted in (("json_schema", False), ("json_object", False), ("text", True)):
        shown = json.loads(chat.shown(chat.CHAT, answer(text), {"response_format": {"type": form}}, RENAME))
        assert (shown["choices"][0]["message"]["content"] != text) == parted


async def through(parts: list[bytes]) -> bytes:
    async def given() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return b"".join([lines async for lines in streams.shown_lines(given(), RENAME, FAILED.append)])


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_the_engines_name_is_replaced_wherever_a_stream_is_cut(size: int):
    said = json.dumps({"content": f'"model":"{HASH}"'})
    stream = f'data: {{"model":"{HASH}","choices":[{said}]}}\n\n: ping\n\ndata: {{"model": "{HASH}"}}\n\ndata: [DONE]'
    parts = [stream.encode()[at : at + size] for at in range(0, len(stream), size)]
    events = (await through(parts)).decode().split("\n\n")
    first, third = (json.loads(events[place].removeprefix("data: ")) for place in (0, 2))
    assert (first["model"], third["model"]) == ('the "expert"', 'the "expert"')
    assert first["choices"] == [json.loads(said)], "a text keeps what it says, whatever that is"
    assert (events[1], events[3]) == (": ping", "data: [DONE]")


async def test_a_base_keeps_its_bytes():
    data = b'data: {"model": "base" , "x":1}\n\n'
    assert streams.renaming("base", "base")(data) is data


async def test_errors_in_mid_stream_get_our_shape():
    event = b'data: {"error": {"message": "no room for ' + HASH.encode() + b'", "code": 500}}\n\n'
    FAILED.clear()
    ours = {"message": "no room for the model", "type": "server_error", "param": None, "code": "engine_error"}
    assert await through([event]) == b"data: " + json.dumps({"error": ours}).encode() + b"\n\n"
    harmless = b'event: x\ndata: {"tools":[{"error":1}],"error":null}\n\n'
    assert await through([harmless]) == harmless
    assert [error.message for error in FAILED] == ["no room for the model"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [(400, "invalid_request"), ("400", "invalid_request"), (503, "engine_error"), (None, "engine_error"), ("x", "x")],
)
def test_error_codes_are_words(given, shown: str):
    assert error_code(given) == shown


def test_the_hash_is_in_no_message():
    assert nameless(f"The model `{HASH}` is odd") == "The model `the model` is odd"


def ask_for(schema: dict[str, Any]) -> None:
    asked(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def test_a_schema_that_never_ends_is_refused_and_a_recursive_one_is_not():
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    ask_for({"$defs": {"node": node}, "$ref": "#/$defs/node"})
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        deep = {"anyOf": [deep]}
    for endless in (
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "type": "object"},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"allOf": [{"$ref": "#"}]},
        deep,
    ):
        with pytest.raises(ValidationError, match=r"never ends|too deeply"):
            ask_for(endless)
