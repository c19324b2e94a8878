"""One form for every provider's answer: text, reasoning, the reason to finish, usage."""

from typing import Any

import pytest
from pydantic import SecretStr

from services.strong_model.gateway import completions
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.normalise import normalised
from services.strong_model.gateway.providers import JudgeProviderSettings, TeacherSettings, providers

TEACHER = providers(
    TeacherSettings(base_url="http://teacher/v1", model="big", api_key=SecretStr("k")), JudgeProviderSettings()
)["default"]


def answer(message: Any, reason: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": reason}]} | more


MESSAGES = [  # (message, text, reasoning, whether it is whole)
    ({"content": "plain"}, "plain", None, True),
    ({"content": " keeps its spaces \n"}, " keeps its spaces \n", None, True),
    ({"content": None}, "", None, True),
    ({"content": "a", "reasoning_content": "r"}, "a", "r", True),
    ({"content": "a", "reasoning": "r"}, "a", "r", True),
    ({"content": "a", "reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}, "a", "r", True),
    ({"content": "a", "reasoning_content": None}, "a", None, True),
    ({"content": "<think>r</think>\n\na"}, "a", "r", True),
    ({"content": "\n<think>\n</think>a"}, "a", None, True),
    ({"content": "r</think>a"}, "a", "r", True),
    ({"content": "<think>r without an end"}, "", "r without an end", False),
    ({"content": "<think>one</think><think>two</think>a"}, "a", "one\ntwo", True),
    ({"content": "<thinking>r</thinking>a"}, "a", "r", True),
    ({"content": "<thought>r</thought>a"}, "a", "r", True),
    ({"content": "<reasoning>r</reasoning>a"}, "a", "r", True),
    ({"content": "[THINK]r[/THINK]a"}, "a", "r", True),
    ({"content": "◁think▷r◁/think▷a"}, "a", "r", True),
    ({"content": "<seed:think>r</seed:think>a"}, "a", "r", True),
    ({"content": "<|channel|>analysis<|message|>r<|end|><|start|>assistant<|channel|>final<|message|>a<|return|>"}, "a", "r", True),
    ({"content": "<|channel|>analysis<|message|>r without an end"}, "", "r without an end", False),
    ({"content": "<|channel|>final <|constrain|>JSON<|message|>{}"}, "{}", None, True),
    ({"content": "analysisr assistantfinal a"}, "a", "r", True),
    ({"content": "Well.\n<think>r</think>\nThe answer."}, "Well.\nThe answer.", "r", True),
    ({"content": "the tag `</think>` ends it"}, "the tag `</think>` ends it", None, True),
    ({"content": "```xml\n<think>x</think>\n```"}, "```xml\n<think>x</think>\n```", None, True),
    ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", None, True),
    ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "a"}]}, "a", "r", True),
    ({"content": [{"type": "thinking", "thinking": "r", "signature": "s"}, {"type": "text", "text": "a"}]}, "a", "r", True),
    ({"content": ["a", "b"]}, "ab", None, True),
    ({"content": {"type": "text", "text": "a"}}, "a", None, True),
]  # fmt: skip


@pytest.mark.parametrize(("message", "text", "reasoning", "whole"), MESSAGES, ids=lambda value: str(value)[:60])
def test_text_and_reasoning_are_told_apart(message: Any, text: str, reasoning: str | None, whole: bool):
    choice = normalised(answer({"role": "assistant"} | message))["choices"][0]
    assert choice["message"]["content"] == text
    assert choice["message"].get("reasoning_content") == reasoning
    assert choice["finish_reason"] == ("stop" if whole else "length")
    assert not {"reasoning", "thinking", "reasoning_details"} & choice["message"].keys()


REASONS = [  # (reason to finish, the ledger's outcome; None: a failure)
    *[(word, "ok") for word in ("stop", "eos", "end_turn", "STOP", "stop_sequence", "FinishReason.STOP", "COMPLETE", "tool_calls")],
    *[(word, "cut_off") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens")],
    *[(word, "filtered") for word in ("content_filter", "SAFETY", "RECITATION", "sensitive", "refusal", "PROHIBITED_CONTENT")],
    *[(word, "unfinished") for word in (None, "", "something_new", "OTHER", 7)],
    *[(word, None) for word in ("error", "insufficient_system_resource", "abort", "network_error")],
]  # fmt: skip


@pytest.mark.parametrize(("reason", "outcome"), REASONS, ids=lambda value: str(value))
def test_only_a_known_reason_to_finish_is_ok(reason: Any, outcome: str | None):
    body = answer({"content": "text"}, reason, usage={"prompt_tokens": 3, "completion_tokens": 1})
    if outcome is None:
        with pytest.raises(ProviderError, match="broke its answer off"):
            completions.checked(TEACHER, body)
        return
    completion = completions.completion(TEACHER, "call", completions.checked(TEACHER, body))
    assert completion.outcome == outcome
    assert completion.cacheable == (outcome in ("ok", "cut_off"))
    words = {"ok": ("stop", "tool_calls"), "filtered": ("content_filter",)}.get(outcome, ("length",))
    assert completion.body["choices"][0]["finish_reason"] in words, "every client knows that it is not whole"


def test_an_operator_may_know_better():
    body = answer({"content": "a"}, None)
    known = TEACHER.model_copy(update={"finished_by": [""]})
    assert completions.completion(known, "call", completions.checked(known, body)).outcome == "ok"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ("12", None),
        ({"prompt_tokens": "9", "completion_tokens": "3"}, (9, 3)),
        ({"prompt_tokens": 9.0, "completion_tokens": 3.0, "total_tokens": None}, (9, 3)),
        ({"prompt_tokens": None, "completion_tokens": 3}, (0, 3)),
        ({"input_tokens": 9, "output_tokens": 3}, (9, 3)),
        ({"prompt_tokens": 9, "total_tokens": 12}, (9, 3)),
        ({"prompt_tokens": 9, "completion_tokens": 3, "completion_tokens_details": None}, (9, 3)),
        ({"prompt_tokens": 9, "completion_tokens": -1, "prompt_tokens_details": {"cached_tokens": None}}, (9, 0)),
    ],
)
def test_usage_is_read_wherever_it_can_be(usage: Any, counted: tuple[int, int] | None):
    cost = completions.cost(TEACHER, completions.checked(TEACHER, answer({"content": "a"}, usage=usage)))
    assert (cost and (cost.input_tokens, cost.output_tokens)) == counted


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"choices": None, "usage": {"prompt_tokens": 9, "total_tokens": 9}}, "teacher_refused_row"),
        ({"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}, "teacher_refused_row"),
        ({"id": "x", "choices": []}, "teacher_bad_answer"),
        ({"choices": [{"message": {"content": 5}}]}, "teacher_bad_answer"),
        ({"choices": [{"message": None}]}, "teacher_bad_answer"),
        ({"error": {"code": 502, "message": "upstream"}}, "teacher_error"),
        ({"error": "the model is overloaded"}, "teacher_error"),
        ([{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}], "teacher_rate_limited"),
        ({"choices": [{"error": {"code": 502, "message": "upstream"}, "message": {"content": ""}}]}, "teacher_error"),
        (
            {"object": "error", "message": "This model's maximum context length is 5", "code": 400},
            "teacher_prompt_too_long",
        ),
        ("a text", "teacher_bad_answer"),
        (None, "teacher_bad_answer"),
    ],
)
def test_what_is_no_answer_is_a_failure_with_a_code(body: Any, code: str):
    with pytest.raises(ProviderError) as caught:
        completions.checked(TEACHER, body)
    assert caught.value.code == code


def test_an_answer_that_reasoning_used_up_is_told_from_a_long_one():
    def outcome(text: str, written: int, reasoning: int | None = None, **message: Any) -> str:
        details = {"reasoning_tokens": reasoning} if reasoning is not None else None
        usage = {"prompt_tokens": 5, "completion_tokens": written, "completion_tokens_details": details}
        body = completions.checked(TEACHER, answer({"content": text} | message, "length", usage=usage))
        return completions.outcome(body, asked=100)

    assert outcome("", 100, 100) == "thought"
    assert outcome("", 100) == "thought"
    assert outcome("half an answer", 100, 60) == "thought"
    assert outcome("half", 100, reasoning_content="long reasoning " * 20) == "thought"
    assert outcome("a whole long answer", 160, 60) == "cut_off"
    assert outcome("a whole long answer", 100, 0) == "cut_off"
    assert outcome("a whole long answer", 100) == "cut_off"
