"""The gateway's plain parts: request identity, failures told apart, streams put together, providers from settings."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from services.strong_model.gateway import completions, errors, streams
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import JudgeProviderSettings, TeacherSettings, providers
from shared.ledger.store import Cost

KEY = "sk-very-secret-1"
TEACHER = TeacherSettings(
    base_url="http://teacher/v1/", model="big", api_key=SecretStr(KEY), price_input=2.0, price_output=6.0
)
PROVIDER = providers(TEACHER, JudgeProviderSettings())["default"]
BODY = {"model": "big", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def error(code: str | None, message: str = "no") -> bytes:
    return json.dumps({"error": {"message": message, "code": code}}).encode()


def test_the_hash_covers_parameters_and_leaves_delivery_out():
    base = completions.request_hash(BODY)
    assert completions.request_hash(dict(reversed(BODY.items()))) == base
    assert completions.request_hash(BODY | {"stream": True, "stream_options": {"include_usage": True}}) == base
    for other in ({"seed": 1}, {"temperature": 0.5}, {"model": "small"}, {"max_tokens": 9}):
        assert completions.request_hash(BODY | other) != base


@pytest.mark.parametrize(
    ("status", "payload", "code", "most"),
    [
        (401, error(None), "teacher_auth_failed", errors.NEVER),
        (403, b"", "teacher_auth_failed", errors.NEVER),
        (403, error(None), "teacher_access_denied", errors.NEVER),
        (402, error(None), "teacher_quota_exhausted", errors.NEVER),
        (429, error("insufficient_quota"), "teacher_quota_exhausted", errors.NEVER),
        (429, error("rate_limit_exceeded"), "teacher_rate_limited", errors.ALWAYS),
        (400, error("context_length_exceeded"), "teacher_prompt_too_long", errors.NEVER),
        (404, b"<html>", "teacher_rejected", errors.NEVER),
        (302, b"", "teacher_misconfigured", errors.NEVER),
        (408, b"", "teacher_error", errors.ALWAYS),
        (409, b"", "teacher_error", errors.ALWAYS),
        (500, b"oops", "teacher_error", errors.ALWAYS),
        (503, b'"text"', "teacher_error", errors.ALWAYS),
        (529, b"[1]", "teacher_error", errors.ALWAYS),
    ],
)
def test_each_status_has_its_code(status, payload, code, most):
    failure = errors.refused(PROVIDER, status, {}, payload)
    assert (failure.code, failure.most_attempts, failure.outcome) == (code, most, f"http_{status}")
    assert 400 <= failure.status < 600


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_repeated_by_the_provider_is_not_passed_on(status):
    failure = errors.refused(PROVIDER, status, {}, error("x", f"bad key {KEY}"))
    assert KEY not in failure.message
    assert KEY not in repr(PROVIDER)


def test_a_refused_key_names_the_variable_to_set():
    assert "METEOR_TEACHER_API_KEY" in errors.refused(PROVIDER, 401, {}, b"").message


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["choices", "message", "error", "x"]), inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_arrives_is_a_completion_or_a_failure(payload):
    assert parsed(payload) in ("completion", *errors.KINDS)
    assert errors.refused(PROVIDER, 500, {}, payload).code == "teacher_error"


def parsed(payload: bytes) -> str:
    try:
        body = completions.parse(PROVIDER, payload)
    except ProviderError as failure:
        return failure.code
    return "completion" if completions.outcome(body) and readable(body) else "neither"


def readable(body: dict) -> bool:
    cost = completions.cost(PROVIDER, body)
    return cost is None or (cost.input_tokens >= 0 and cost.output_tokens >= 0)


def event(data: dict) -> streams.Event:
    return streams.Event("message", json.dumps(data))


def chunk(delta: dict, reason: str | None = None, **more) -> streams.Event:
    return event({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} | more)


def test_a_stream_becomes_the_completion_it_was():
    assembly = streams.Assembly(PROVIDER)
    for data in (chunk({"role": "assistant", "content": "a"}), chunk({"content": "b"}), chunk({}, "stop")):
        assembly.add(data)
    assembly.add(event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}))
    body = assembly.finish()
    assert body["choices"][0]["message"]["content"] == "ab"
    assert completions.cost(PROVIDER, body) == Cost(4, 2, PROVIDER.usd(4, 2))
    assert assembly.whole
    again = streams.Assembly(PROVIDER)
    for part in streams.chunks_of(body, include_usage=True):
        again.add(event(part))
    assert again.finish()["choices"] == body["choices"]
    assert completions.cost(PROVIDER, again.finish()) == completions.cost(PROVIDER, body)


PRICED = PROVIDER.model_copy(
    update={"price_input": 10.0, "price_output": 40.0, "price_cached_input": 1.0, "reasoning_tokens": 100}
)


def test_a_call_costs_what_the_provider_counted():
    def of(**usage) -> Cost | None:
        return completions.cost(PRICED, {"usage": usage})

    assert of(prompt_tokens=100, completion_tokens=10) == Cost(100, 10, (1000 + 400) / 1e6)
    cached = of(prompt_tokens=100, completion_tokens=10, prompt_tokens_details={"cached_tokens": 60})
    assert cached is not None
    assert cached._replace(usd=0.0) == Cost(100, 10, 0.0, 60)
    assert cached.usd == pytest.approx((40 * 10 + 60 + 400) / 1e6)
    apart = of(prompt_tokens=100, completion_tokens=10, total_tokens=140)  # 30 tokens of reasoning beside the answer
    assert apart == Cost(100, 40, (1000 + 1600) / 1e6)
    assert of() is None
    assert of(prompt_tokens=0, completion_tokens=0) is None
    assert completions.cost(PRICED, {"usage": None}) is None


def test_a_reservation_bounds_bytes_reasoning_and_every_answer():
    body = {"model": "m", "messages": [{"role": "user", "content": "ü" * 1000}], "max_tokens": 50}
    plain = completions.most(PRICED, body)
    assert 2000 + 150 <= plain.tokens < 2000 + 150 + 200
    assert plain.usd >= (2000 * 10 + 150 * 40) / 1e6
    four = completions.most(PRICED, body | {"n": 4})
    assert four.tokens - plain.tokens >= 3 * 150
    assert completions.most(PRICED, {"messages": []}).tokens > completions.UNBOUNDED


def test_a_stream_with_parts_unknown_to_us_is_not_whole():
    assembly = streams.Assembly(PROVIDER)
    assembly.add(chunk({"audio": {"id": "a"}}, "stop"))
    assert not assembly.whole


def test_a_streamed_tool_call_is_put_together():
    assembly = streams.Assembly(PROVIDER)
    first = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "look", "arguments": '{"a"'}}
    assembly.add(chunk({"tool_calls": [first]}))
    assembly.add(chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}, "tool_calls"))
    message = assembly.finish()["choices"][0]["message"]
    call = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    assert message["tool_calls"] == [call]
    assert assembly.whole


def test_a_stream_that_breaks_off_is_a_bad_answer():
    assembly = streams.Assembly(PROVIDER)
    assembly.add(chunk({"content": "a"}))
    with pytest.raises(ProviderError, match="broke off"):
        assembly.finish()
    with pytest.raises(ProviderError, match="overloaded"):
        assembly.add(event({"error": {"message": "overloaded"}}))


def test_prices_are_per_million_tokens():
    assert PROVIDER.usd(1_000_000, 500_000) == pytest.approx(2.0 + 3.0)


def test_the_teachers_key_stays_with_the_teachers_host():
    own = providers(TEACHER, JudgeProviderSettings(base_url="http://other/v1", model="j"))["judge"]
    assert own.request_headers() == {}
    shared = providers(TEACHER, JudgeProviderSettings(model="j"))["judge"]
    assert (shared.base_url, shared.model) == ("http://teacher/v1", "j")
    assert shared.request_headers() == {"authorization": f"Bearer {KEY}"}
    assert "judge" not in providers(TEACHER, JudgeProviderSettings())
    assert providers(TeacherSettings(), JudgeProviderSettings(model="j")) == {}


def test_bad_headers_are_refused_without_being_shown():
    with pytest.raises(ValidationError) as caught:
        TeacherSettings(headers=SecretStr('{"x": secret-word'))
    assert "secret-word" not in str(caught.value)
