"""The gateway's protocol: every fault of a provider has its code, streams pass, bad requests are named and never sent."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from shared.contracts.errors import FatalError, TransientError, UserError
from tests.fakes.gateway import KEY, TOKEN, Gateway, ask, assert_ledger_is_log, one, running_gateway
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import start_teacher

ASK = ask("names")


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with start_teacher("--api-key", KEY) as teacher, running_gateway(teacher, folder) as gateway:
        yield gateway


@pytest.fixture
def gateway(started: Gateway) -> Iterator[Gateway]:
    yield started
    started.teacher.heal()


@pytest.mark.parametrize(
    ("fault", "kind", "code", "sent"),
    [
        ("401", UserError, "teacher_auth_failed", 1),
        ("quota", UserError, "teacher_quota_exhausted", 1),
        ("400", UserError, "teacher_prompt_too_long", 1),
        ("500", TransientError, "teacher_error", 3),
        ("html", TransientError, "teacher_bad_answer", 2),
        ("invalid_json", TransientError, "teacher_bad_answer", 2),
        ("empty_choice", TransientError, "teacher_bad_answer", 2),
        ("cut_stream", TransientError, "teacher_bad_answer", 2),
        ("huge", TransientError, "teacher_bad_answer", 2),
        ("hang", TransientError, "teacher_timeout", 1),
    ],
)
async def test_each_fault_has_its_code_and_number_of_attempts(gateway: Gateway, fault, kind, code, sent):
    gateway.teacher.fault(fault)
    before = len(gateway.teacher.log())
    with pytest.raises(kind) as caught:
        await one(gateway, ask(fault))
    assert caught.value.code == code
    assert caught.value.param == ("distillation.teacher" if kind is UserError else None)
    assert KEY not in caught.value.message
    arrived = gateway.teacher.log()[before:]
    assert len(arrived) == sent
    for entry in arrived:
        row = gateway.row(entry["request_id"])
        assert row.state == "settled"
        assert row.outcome not in ("ok", "cached")
        assert row.usd == 0


async def test_nobody_listens(gateway: Gateway):
    with pytest.raises(TransientError) as caught:
        await one(gateway, ask("judge"), model="judge")
    assert caught.value.code == "teacher_unreachable"
    assert "METEOR_JUDGE_BASE_URL" in caught.value.message


async def test_a_teacher_that_still_starts_is_waited_for(gateway: Gateway, tmp_path: Path):
    """Far more attempts than one request may be sent: those that nobody took do not count."""
    port = free_port()
    judge = {"METEOR_JUDGE_BASE_URL": f"http://127.0.0.1:{port}/v1", "METEOR_JUDGE_API_KEY": KEY}
    patience = {
        "METEOR_STRONG_PATIENCE": "PT60S",
        "METEOR_STRONG_DEADLINE": "PT60S",
        "METEOR_STRONG_MAX_BACKOFF": "PT0.2S",
    }
    with running_gateway(gateway.teacher, tmp_path, **judge, **patience) as patient:
        waiting = asyncio.create_task(one(patient, ask("early"), model="judge"))
        await asyncio.sleep(1.5)
        assert not waiting.done()
        with start_teacher("--api-key", KEY, port=port):
            assert (await waiting).text
        outcomes = Counter(row.outcome for row in patient.rows())
    assert outcomes.pop("ok") == 1
    assert outcomes.keys() == {"unreachable"}
    assert outcomes["unreachable"] > 3


async def test_a_teacher_that_comes_back_is_waited_for(gateway: Gateway):
    gateway.teacher.fault("500", times=2)
    assert (await one(gateway, ask("twice"))).text
    gateway.teacher.fault("429", times=1, retry_after=0.7)
    started = time.monotonic()
    assert (await one(gateway, ask("slow down"))).text
    assert time.monotonic() - started >= 0.7


def sdk(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=TOKEN, max_retries=0)


async def streamed(gateway: Gateway, messages: list[Any], usage: bool = True) -> tuple[str, int | None, str | None]:
    """(text, tokens of the usage chunk, reason to finish) by the unmodified SDK."""
    text, tokens, reason = "", None, None
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    async with sdk(gateway) as client:
        async for chunk in await client.chat.completions.create(
            model="fake-large", messages=messages, stream=True, **options
        ):
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
    return text, tokens, reason


async def test_streams_pass_through_and_are_kept(gateway: Gateway):
    before = len(gateway.teacher.log())
    live = await streamed(gateway, ask("stream"))
    assert live[0]
    assert live[1] == len(live[0].split())
    assert live[2] == "stop"
    row = gateway.row(gateway.teacher.log()[-1]["request_id"])
    assert (row.outcome, row.output_tokens) == ("ok", live[1])
    assert await streamed(gateway, ask("stream")) == live
    assert (await streamed(gateway, ask("stream"), usage=False)) == (live[0], None, "stop")
    async with sdk(gateway) as client:
        whole = await client.chat.completions.create(model="default", messages=ask("stream"))
    assert whole.choices[0].message.content == live[0]
    assert len(gateway.teacher.log()) == before + 1


async def test_a_stream_that_breaks_ends_with_an_error(gateway: Gateway):
    gateway.teacher.fault("cut_stream")
    with pytest.raises(openai.APIError, match="broke off"):
        await streamed(gateway, ask("cut"))
    assert gateway.row(gateway.teacher.log()[-1]["request_id"]).outcome == "bad_answer"
    gateway.teacher.heal()
    assert (await streamed(gateway, ask("cut")))[2] == "stop"


async def test_a_stream_that_fails_before_it_begins_is_an_http_error(gateway: Gateway):
    gateway.teacher.fault("401")
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await streamed(gateway, ask("no stream"))
    assert caught.value.code == "teacher_auth_failed"


async def test_a_stream_is_finished_and_kept_although_its_reader_went_away(gateway: Gateway):
    async with sdk(gateway) as client:
        stream = await client.chat.completions.create(model="default", messages=ask("half read"), stream=True)
        await anext(aiter(stream))
        await stream.close()
    wait_until(lambda: gateway.rows()[-1].outcome == "ok", 60)
    asked = len(gateway.teacher.log())
    async with sdk(gateway) as client:
        stream = await client.chat.completions.create(model="default", messages=ask("half read"), stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert len(gateway.teacher.log()) == asked, "the answer was not kept"


async def test_structured_output_is_passed_through(gateway: Gateway):
    schema = {"type": "object", "properties": {"correct": {"type": "boolean"}, "critique": {"type": "string"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    reply = await one(gateway, ask("verdict"), response_format=format_)
    assert '"correct"' in reply.text


async def test_names_of_models(gateway: Gateway):
    async with sdk(gateway) as client:
        assert {model.id async for model in client.models.list()} == {"default", "judge"}
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-none", messages=ASK)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(UserError):
        await one(gateway, ASK, model="gpt-none")


async def test_only_the_internal_token_opens_it(gateway: Gateway):
    before = len(gateway.rows())
    with pytest.raises(FatalError) as caught:
        async with gateway.client(token="wrong") as client:
            await client.chat(model="default", messages=ASK, max_tokens=5)
    assert caught.value.code == "gateway_auth_failed"
    async with httpx.AsyncClient() as http:
        for method, path in (("GET", "/v1/models"), ("POST", "/internal/cancel"), ("POST", "/v1/chat/completions")):
            response = await http.request(method, gateway.url + path, json={})
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_internal_token"
    assert len(gateway.rows()) == before


@pytest.mark.parametrize(
    "body", [{}, {"model": "default"}, {"model": "default", "messages": []}, {"messages": "x"}, []]
)
async def test_bad_bodies_are_named_and_never_sent(gateway: Gateway, body):
    before = len(gateway.teacher.log())
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:
        response = await http.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert set(response.json()["error"]) - {"errors"} == {"message", "type", "param", "code"}
    assert len(gateway.teacher.log()) == before


async def test_readiness_says_which_provider_is_missing(gateway: Gateway):
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{gateway.url}/readyz")
        metrics = (await http.get(f"{gateway.url}/metrics")).text
    states = response.json()["providers"]
    assert response.status_code == 503
    assert states["default"] == {"ready": True}
    assert states["judge"]["code"] == "teacher_unreachable"
    assert "meteor_teacher_calls_total" in metrics


async def test_the_ledger_is_what_the_teacher_saw(started: Gateway):
    """Over all that this module did before."""
    assert_ledger_is_log(started)
