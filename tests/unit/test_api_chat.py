"""What goes to the engine and what comes back, as pure functions."""

import json

import pytest

from services.api.clients import error_code
from services.api.service import chat
from services.api.service.models import Target
from shared.contracts.answers import SYSTEM
from shared.contracts.errors import UserError

TARGET = Target("expert", "a" * 64, "base")
ASK = [{"role": "user", "content": "hi"}]


def test_every_allowed_field_passes_and_others_are_named():
    body = dict.fromkeys(chat.ALLOWED) | {"model": "expert", "messages": ASK}
    assert chat.checked(body) == body
    for name in ("chat_template", "kv_transfer_params", "vllm_xargs", "priority", "add_generation_prompt"):
        with pytest.raises(UserError) as refused:
            chat.checked(body | {name: None})
        assert (refused.value.param, refused.value.code) == (name, "unknown_parameter")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_text_is_added_only_where_none_is(role: str):
    sent = chat.for_engine({"model": "expert", "messages": ASK, "top_k": 3}, TARGET)
    assert sent == {"model": "a" * 64, "messages": [{"role": "system", "content": SYSTEM}, *ASK], "top_k": 3}
    own = [{"role": role, "content": "Be brief."}, *ASK]
    assert chat.for_engine({"model": "expert", "messages": own}, TARGET)["messages"] == own


def answer(text: str | None) -> dict:
    return {"model": "a" * 64, "choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.mark.parametrize(
    ("text", "rationale", "content"),
    [
        ("Because.\nAnswer: 42", "Because.", "42"),
        ("Answer: 42", None, "42"),
        (" just text ", None, " just text "),
        ("The answer: 42", None, "The answer: 42"),
        ("a\nAnswer: b\nAnswer: c", "a\nAnswer: b", "c"),
        (None, None, None),
    ],
)
def test_rationale_and_answer_are_parted(text: str | None, rationale: str | None, content: str | None):
    shown = chat.shown_answer(answer(text), TARGET, structured=False)
    assert shown["model"] == "expert"
    message = shown["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (rationale, content)


def test_structured_text_is_left_alone():
    assert chat.is_structured({"response_format": {"type": "json_schema"}})
    assert not chat.is_structured({"response_format": {"type": "text"}})
    text = '{"a": "x\nAnswer: y"}'
    assert chat.shown_answer(answer(text), TARGET, structured=True)["choices"][0]["message"]["content"] == text


def test_stream_lines():
    assert chat.shown_line("", TARGET) is None
    assert chat.shown_line(": ping", TARGET) is None
    assert chat.shown_line("data: [DONE]", TARGET) == "data: [DONE]\n\n"
    shown = chat.shown_line('data: {"model": "hash", "choices": []}', TARGET)
    assert shown is not None
    assert json.loads(shown.removeprefix("data: ")) == {"model": "expert", "choices": []}
    failed = chat.shown_line('data: {"error": {"message": "no", "code": 500}}', TARGET)
    assert failed is not None
    assert json.loads(failed.removeprefix("data: "))["error"] == {
        "message": "no",
        "type": "server_error",
        "param": None,
        "code": "engine_error",
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [(400, "invalid_request"), ("400", "invalid_request"), (503, "engine_error"), (None, "engine_error"), ("x", "x")],
)
def test_error_codes_are_words(given, shown: str):
    assert error_code(given) == shown
