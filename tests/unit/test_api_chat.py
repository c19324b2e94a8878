"""What goes to the engine and what comes back, as pure functions."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from services.api.engine_errors import error_code, nameless
from services.api.features.chat import responses, streams
from services.api.features.chat import service as chat
from services.api.features.chat.service import Asked
from services.api.model_router import Target
from shared.contracts.answer_format import SYSTEM
from shared.contracts.chat import ChatRequest, CompletionRequest, ResponsesRequest
from shared.contracts.errors import MeteorError, UserError
from shared.contracts.generation import Generation
from shared.jobs.tables import DEFAULT_PROJECT

HASH = "a" * 64
ASK: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
FAILED: list[MeteorError] = []
RENAME = streams.renaming(HASH, 'the "expert"')


TARGET = Target("expert", HASH, "base", "expert", base="base", generation=Generation(max_tokens=48))
KNOWS_TOOLS = "{{ tools }} {{ message.tool_calls }} {% if enable_thinking %}"


def made(template: str | None = KNOWS_TOOLS, **fields: Any) -> Asked:
    body = ChatRequest.model_validate({"model": "expert", "messages": ASK} | fields)
    return chat.asked(body, TARGET, DEFAULT_PROJECT, template)


def asked(**fields: Any) -> dict[str, Any]:
    return made(**fields).body


@pytest.mark.parametrize(
    ("kind", "needed"), [(ChatRequest, {"messages": ASK}), (CompletionRequest, {"prompt": "a"})]
)  # fmt: skip
@pytest.mark.parametrize(
    "name",
    ["chat_template", "kv_transfer_params", "vllm_xargs", "priority", "cache_salt", "request_id", "prompt_embeds"],
)
def test_what_is_the_engines_own_is_refused_by_its_name(kind: type, needed: dict[str, Any], name: str):
    body = kind.model_validate({"model": "m", name: None} | needed)
    assert name not in chat.asked(body, TARGET, DEFAULT_PROJECT, None).body
    with pytest.raises(UserError) as refused:
        chat.asked(kind.model_validate({"model": "m", name: 1} | needed), TARGET, DEFAULT_PROJECT, None)
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", name)


def test_what_is_on_the_list_arrives_as_it_was_given():
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    given = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
        ],
        "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 3,
        "response_format": schema, "tools": [tool], "tool_choice": "auto",
        "temperature": 0, "top_k": 5, "min_p": 0.1, "seed": -1, "ignore_eos": True, "logit_bias": {"7": -100.0},
    }  # fmt: skip
    sent = asked(**given, stop="x", safety_identifier="me")
    assert sent == given | {"model": HASH, "stop": ["x"]}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_text_is_added_only_where_none_is(role: str):
    assert asked(top_k=3)["messages"] == [{"role": "system", "content": SYSTEM}, *ASK]
    own = [{"role": role, "content": [{"type": "text", "text": "Be brief."}]}, *ASK]
    assert asked(messages=own)["messages"] == [{"role": "system", "content": "Be brief."}, *ASK]
    both = [{"role": "system", "content": "Be brief."}, {"role": role, "content": "Be kind."}, *ASK]
    assert asked(messages=both)["messages"] == [{"role": "system", "content": "Be brief.\n\nBe kind."}, *ASK]
    assert asked(continue_final_message=True)["add_generation_prompt"] is False, "the engine refuses both"


def test_prompts_that_the_engine_keeps_serve_one_project_alone():
    body = CompletionRequest(model="m", prompt="a")
    salts = [chat.asked(body, TARGET, project, None).body.get("cache_salt") for project in ("proj_1", "proj_2")]
    assert salts == ["proj_1", "proj_2"]


DEFAULTS = [
    ("greedy and no longer than evaluated", {}, {"temperature": 0.0, "max_tokens": 48}),
    ("null is no value", {"temperature": None, "max_tokens": None}, {"temperature": 0.0, "max_tokens": 48}),
    ("a temperature of the caller's", {"temperature": 0.7}, {"temperature": 0.7, "max_tokens": 48}),
    ("samples are wanted", {"top_p": 0.9}, {"top_p": 0.9, "max_tokens": 48}),
    ("every token may come", {"top_p": 1}, {"top_p": 1, "temperature": 0.0, "max_tokens": 48}),
    ("the likeliest alone", {"top_p": 0}, {"top_p": 1.0, "temperature": 0.0, "max_tokens": 48}),
    ("a length of the caller's", {"max_completion_tokens": 9}, {"temperature": 0.0, "max_completion_tokens": 9}),
    ("whole numbers as floats", {"max_tokens": 9.0, "seed": 3.0}, {"temperature": 0.0, "max_tokens": 9, "seed": 3}),
    ("longer than any", {"max_tokens": 10**12}, {"temperature": 0.0, "max_tokens": 2**31 - 1}),
    ("a structured answer is not cut", {"response_format": {"type": "json_object"}},
     {"temperature": 0.0, "response_format": {"type": "json_object"}}),
    ("a plain format", {"response_format": {"type": "text"}},
     {"temperature": 0.0, "max_tokens": 48, "response_format": {"type": "text"}}),
    ("no end texts", {"stop": [], "tools": [], "logit_bias": None}, {"temperature": 0.0, "max_tokens": 48}),
    ("an empty end text", {"stop": ""}, {"temperature": 0.0, "max_tokens": 48}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "sent"), [pytest.param(*case[1:], id=case[0]) for case in DEFAULTS])
def test_a_version_answers_as_it_was_evaluated_unless_the_caller_says_otherwise(
    given: dict[str, Any], sent: dict[str, Any]
):
    assert {name: value for name, value in asked(**given).items() if name not in ("model", "messages")} == sent


def test_a_response_is_a_chat():
    def sent(**fields: Any) -> dict[str, Any]:
        body = ResponsesRequest.model_validate({"model": "m", "input": "hi"} | fields)
        return chat.asked(responses.as_chat(body).chat, TARGET, DEFAULT_PROJECT, KNOWS_TOOLS).body

    assert sent() == asked()
    assert sent(instructions="Be brief.")["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent(input=[{"role": "developer", "content": "Be brief."}, *ASK])["messages"][0]["content"] == "Be brief."
    assert sent(max_output_tokens=7)["max_completion_tokens"] == 7
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    items = [
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "4"}]},
    ]
    with_tools = sent(input=[*ASK, *items], tools=[tool])
    assert with_tools["tools"][0]["function"]["name"] == "f"
    assert [message["role"] for message in with_tools["messages"]] == ["system", "user", "assistant", "tool"]
    assert with_tools["messages"][-1] == {"role": "tool", "tool_call_id": "c", "content": "4"}


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
        (" just text ", None, "just text"),
        ("The answer: 42", None, "The answer: 42"),
        ("a\nAnswer: b\nAnswer: c", "a\nAnswer: b", "c"),
        (None, None, None),
    ],
)
def test_rationale_and_answer_are_parted(text: str | None, rationale: str | None, content: str | None):
    shown = chat.shown(made(), answer(text))
    message = shown["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (rationale, content)


def test_structured_text_is_left_alone():
    text = '{"a": "x\nAnswer: y"}'
    for form, parted in (("json_schema", False), ("json_object", False), ("text", True)):
        schema = {"json_schema": {"name": "s", "schema": {"type": "object"}}} if form == "json_schema" else {}
        shown = chat.shown(made(response_format={"type": form, **schema}), answer(text))
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


# the rationale of a stream


REASONING = TARGET._replace(generation=Generation(rationale=True))


def told(text: str, size: int, reason: str = "stop") -> tuple[str, str]:
    """(rationale, answer) of a stream whose text comes in pieces of so many characters."""
    body = ChatRequest.model_validate({"model": "expert", "messages": ASK, "stream": True, "logprobs": True})
    reshape = chat.Reshaper(chat.asked(body, REASONING, DEFAULT_PROJECT, None))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces), {}]
    parts: dict[str, str] = {"reasoning_content": "", "content": ""}
    seen: list[str] = []
    last: dict[str, Any] = {}
    for number, delta in enumerate(deltas):
        ended = reason if number == len(deltas) - 1 else None
        logprobs = {"content": [{"token": delta["content"]}]} if delta.get("content") else None
        for chunk in reshape({"choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": ended}]}):
            (choice,) = chunk["choices"]
            for field in parts:
                parts[field] += choice["delta"].get(field) or ""
            seen += [entry["token"] for entry in (choice["logprobs"] or {}).get("content") or []]
            last = choice
    assert last["finish_reason"] == reason
    assert "".join(seen) == text or text.endswith(" "), "no token's logprobs are lost"
    return parts["reasoning_content"], parts["content"]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "rationale", "content"),
    [
        ("Twice 21,\nso it is so.\nAnswer: 42", "Twice 21,\nso it is so.", "42"),
        ("Twice 21.\nAnswer: 42\nor so", "Twice 21.", "42\nor so"),
        ("Answer: 42", "", "42"),
        ("Why?\nAnswered: no.\nAnswer: yes", "Why?\nAnswered: no.", "yes"),
    ],
)
def test_a_streams_rationale_is_told_apart(text: str, rationale: str, content: str, size: int):
    assert told(text, size) == (rationale, content)
    assert chat.shown(made(), answer(text))["choices"][0]["message"]["content"] == content, "as without a stream"


@pytest.mark.parametrize(("text", "reason"), [("just 42", "stop"), ("Twice 21, and", "length")])
def test_a_stream_without_the_marker_is_an_answer_as_without_a_stream(text: str, reason: str):
    assert told(text, 4, reason)[1] == text


def test_only_a_version_that_learned_rationales_is_held_back():
    body = ChatRequest.model_validate({"model": "expert", "messages": ASK, "stream": True})
    assert not chat.asked(body, TARGET, DEFAULT_PROJECT, None).reshapes
    assert chat.asked(body, REASONING, DEFAULT_PROJECT, None).reshapes
    form = body.model_copy(update={"response_format": {"type": "json_object"}})
    structured = ChatRequest.model_validate(form.sent | {"response_format": {"type": "json_object"}, "model": "expert"})
    assert not chat.asked(structured, REASONING, DEFAULT_PROJECT, None).reshapes
    assert "rationale" not in Generation().model_dump()


def test_a_response_streams_its_reasoning_as_an_item_of_its_own():
    request = ResponsesRequest.model_validate({"model": "expert", "input": "hi", "stream": True})
    events = responses.Events(request, "expert")
    chunks = [
        {"choices": [{"delta": {"reasoning_content": "Twice"}, "finish_reason": None}]},
        {"choices": [{"delta": {"reasoning_content": " 21."}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": "42"}, "finish_reason": "stop"}]},
    ]
    said = [*events.begin(), *(event for chunk in chunks for event in events(chunk)), *events.end()]
    kinds = [event["type"].removeprefix("response.") for event in said]
    assert kinds == [
        "created", "in_progress", "output_item.added", "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done",
        "output_item.done", "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    thought, message = said[-1]["response"]["output"]
    assert (thought["type"], thought["content"][0]["text"]) == ("reasoning", "Twice 21.")
    assert message["content"][0]["text"] == "42"
