"""One form for every provider's answer: text, reasoning, the reason to finish, usage."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from services.strong_model.gateway import completions
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.normalise import normalised
from services.strong_model.gateway.providers import JudgeProviderSettings, TeacherSettings, providers
from services.strong_model.gateway.streams import Assembly, Event, Live

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
    ({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]}, {"type": "text", "text": "a"}]}, "a", "r", True),
    ({"content": "<|channel>thought\nr<channel|>a"}, "a", "r", True),
    ({"content": "<|inner_prefix|>r<|inner_suffix|>a"}, "a", "r", True),
    ({"content": "Here is my thought process: r Here is my response: a"}, "a", "r", True),
    ({"content": "<think>r</think><answer>a</answer>"}, "a", "r", True),
    ({"content": "<think>r</think>\n<response>\na\n</response>"}, "a", "r", True),
    ({"content": "<think>r</think><|begin_of_box|>a<|end_of_box|>"}, "a", "r", True),
    ({"content": "<answer>a</answer>"}, "<answer>a</answer>", None, True),
    ({"content": [{"type": "text", "text": {"value": "a", "annotations": []}}]}, "a", None, True),
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
    *[(word, "ok") for word in ("stop", "eos", "end_turn", "STOP", "stop_sequence", "FinishReason.STOP", "COMPLETE", "tool_calls", {"type": "stop", "matched": 2})],
    *[(word, "cut_off") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "max_new_tokens", "ERROR_LIMIT", {"type": "length", "length": 9})],
    *[(word, "filtered") for word in ("content_filter", "SAFETY", "RECITATION", "sensitive", "refusal", "PROHIBITED_CONTENT", "ERROR_TOXIC")],
    *[(word, "unfinished") for word in (None, "", "something_new", "OTHER", 7)],
    *[(word, None) for word in ("error", "insufficient_system_resource", "abort", "network_error", "MALFORMED_RESPONSE", "load")],
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
        (
            {"base_resp": {"status_code": 1004, "status_msg": "login fail: carry the API secret key"}},
            "teacher_auth_failed",
        ),
        (
            {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
            "teacher_refused_row",
        ),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "teacher_rate_limited"),
        ({"error": "insufficient balance, please recharge"}, "teacher_quota_exhausted"),
        ({"model": "m", "message": {"role": "assistant", "content": "a"}, "done": True}, "teacher_bad_answer"),
        ({"model": "m", "response": "a", "done": True}, "teacher_bad_answer"),
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


@pytest.mark.parametrize(
    ("pieces", "text", "reasoning"),
    [
        (["plain", " text"], "plain text", ""),
        (["<thi", "nk>r", "r</th", "ink>\n\na", "b"], "ab", "rr"),
        (["<think>never ends", " at all"], "", "never ends at all"),
        (["<", "b>bold</b>"], "<b>bold</b>", ""),
        (["<thi"], "<thi", ""),
        (["<|channel|>analysis<|message|>r<|end|>", "<|start|>assistant<|channel|>final<|message|>a"], "a", "r<|end|><|start|>assistant"),
    ],
)  # fmt: skip
def test_a_client_of_a_stream_gets_text_and_reasoning_apart(pieces: list[str], text: str, reasoning: str):
    live = Live()
    chunks = [live.chunk({"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    chunks.append(live.chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "eos"}]}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == text
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == reasoning
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_pieces_of_a_stream_have_one_form():
    part = {"index": 0, "delta": {"reasoning": "r", "content": [{"type": "text", "text": "a"}]}, "finish_reason": None}
    assert Live().chunk({"choices": [part]})["choices"][0]["delta"] == {"content": "a", "reasoning_content": "r"}


def test_an_error_that_begins_a_stream_is_read_as_any_other():
    first = Event("message", '{"error": {"code": 400, "message": "temperature is not supported"}}')
    with pytest.raises(ProviderError, match="temperature is not supported") as caught:
        Assembly(TEACHER).add(first)
    assert caught.value.outcome == "http_400"


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (answer({"content": "a"}), "a"),
        (answer({"content": "<think>r</think>a"}), "a"),
        (answer({"content": ""}), None),
        (answer({"content": "<think>cut"}), None),
        (answer({"content": "a"}, "error"), None),
        (answer({"content": {"no": "text"}}, None), None),
        ({"choices": []}, None),
    ],
)
def test_what_was_cached_before_answers_were_checked_is_asked_for_again(kept: Any, text: str | None):
    body = completions.usable(kept, TEACHER)
    assert (body and body["choices"][0]["message"]["content"]) == text


def test_what_the_operator_calls_whole_is_so_in_the_cache_too():
    own = TEACHER.model_copy(update={"finished_by": ["fini"]})
    assert completions.usable(answer({"content": "a"}, "fini"), TEACHER) is None
    assert completions.usable(answer({"content": "a"}, "fini"), own) is not None


def test_the_whole_message_beside_the_pieces_of_a_stream_is_not_a_piece():
    assembly, whole = Assembly(TEACHER), ""
    for piece, reason in (("one ", None), ("two", None), (None, "stop")):
        whole += piece or ""
        choice = {"index": 0, "delta": {"content": piece} if piece else {}, "message": {"content": whole}}
        assembly.add(Event("message", json.dumps({"choices": [choice | {"finish_reason": reason}]})))
    assert assembly.finish()["choices"][0]["message"]["content"] == "one two"


def test_signs_of_life_are_no_garbage():
    assembly = Assembly(TEACHER)
    for event in (Event("message", ""), Event("ping", "{}"), Event("heartbeat", "now")):
        assert assembly.add(event) is None


def test_an_error_after_the_head_of_a_stream_is_read_as_any_other_and_one_after_a_text_ends_it():
    head = Event("message", '{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}')
    refusal = Event("message", '{"object": "error", "message": "seed is not supported", "code": 400}')
    assembly = Assembly(TEACHER)
    assembly.add(head)
    with pytest.raises(ProviderError) as caught:
        assembly.add(refusal)
    assert caught.value.outcome == "http_400"
    for words, code in (("overloaded", "teacher_error"), ("flagged by our content filter", "teacher_refused_row")):
        assembly = Assembly(TEACHER)
        assembly.add(Event("message", '{"choices": [{"index": 0, "delta": {"content": "half"}}]}'))
        with pytest.raises(ProviderError) as caught:
            assembly.add(Event("message", f'{{"error": {{"message": "{words}"}}}}'))
        assert (caught.value.code, caught.value.cost) == (code, None), "it may be paid for"
