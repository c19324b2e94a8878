"""Several providers before the gateway as a process: who stands in for whom, what a provider bears, what is kept of samples."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.contracts.errors import TransientError, UserError
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, ask, assert_ledger_is_log, running_gateway
from tests.fakes.start import start_teacher

PROVIDERS = """
[providers.first]
base_url = "{url}"
model = "first-model"
api_key_env = "FILE_KEY"
price_output = 1
fallback = ["down", "spare"]

[providers.down]
base_url = "http://127.0.0.1:9/v1"
model = "down-model"

[providers.spare]
base_url = "{url}"
model = "spare-model"
api_key_env = "FILE_KEY"
price_output = 1000
json_schema = false

[providers.alone]
base_url = "{url}"
model = "alone-model"
api_key_env = "FILE_KEY"

[providers.slow]
base_url = "{url}"
model = "slow-model"
api_key_env = "FILE_KEY"
requests_per_minute = 60

[providers.crowd]
base_url = "{url}"
model = "crowd-model"
api_key_env = "FILE_KEY"
concurrent = 16
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with start_teacher("--api-key", KEY) as teacher:
        (folder / "providers.toml").write_text(PROVIDERS.format(url=teacher.base_url))
        more = {"METEOR_PROVIDERS_FILE": str(folder / "providers.toml"), "FILE_KEY": KEY, "REDIS_URL": _valkey_server}
        more |= {"METEOR_STRONG_BREAKER_FAILURES": "4", "METEOR_STRONG_PATIENCE": "PT60S"}
        with running_gateway(teacher, folder, **more, **PATIENT) as gateway:
            yield gateway


@pytest.fixture
def gateway(started: Gateway) -> Iterator[Gateway]:
    yield started
    started.teacher.heal()


async def chat(gateway: Gateway, model: str, about: object, **more: Any) -> Any:
    async with gateway.client() as client:
        return await client.chat(model=model, messages=ask(about), max_tokens=50, **more)


def calls_since(gateway: Gateway, before: int) -> list[tuple[str, str, str]]:
    return [(row.provider, row.model, row.outcome) for row in gateway.rows()[before:]]


async def test_another_provider_stands_in_and_its_answer_is_kept(gateway: Gateway):
    before = len(gateway.rows())
    gateway.teacher.fault("500", times=3)
    reply = await chat(gateway, "first", "stand in")
    assert calls_since(gateway, before) == [
        *[("first", "first-model", "http_500")] * 3,
        *[("down", "down-model", "unreachable")] * 3,
        ("spare", "spare-model", "ok"),
    ]
    paid = gateway.row(reply.call_id)
    assert paid.provider == "spare"
    assert paid.usd == pytest.approx(reply.output_tokens * 1000 / 1e6)
    assert [entry["model"] for entry in gateway.teacher.log()[-4:]] == [*["first-model"] * 3, "spare-model"]
    asked = len(gateway.teacher.log())
    again = await chat(gateway, "first", "stand in")
    assert (again.cached, again.call_id) == (True, reply.call_id)
    assert len(gateway.teacher.log()) == asked
    assert not (await chat(gateway, "spare", "stand in")).cached, "it was not asked for by its own name"


@pytest.mark.parametrize(("fault", "code"), [("400", "teacher_prompt_too_long"), ("401", "teacher_auth_failed")])
async def test_what_the_request_or_the_key_is_to_blame_for_goes_nowhere_else(gateway: Gateway, fault: str, code: str):
    before = len(gateway.rows())
    gateway.teacher.fault(fault)
    with pytest.raises(UserError) as caught:
        await chat(gateway, "first", f"refused {fault}")
    assert caught.value.code == code
    assert calls_since(gateway, before) == [("first", "first-model", f"http_{fault}")]


async def test_an_empty_account_is_stood_in_for(gateway: Gateway):
    gateway.teacher.fault("quota", times=1)
    reply = await chat(gateway, "first", "no money")
    assert gateway.row(reply.call_id).provider == "spare"


async def test_a_broken_provider_gets_single_probes_until_it_is_well(gateway: Gateway):
    gateway.teacher.fault("500")
    for number in range(2):
        with pytest.raises(TransientError):
            await chat(gateway, "alone", f"broken {number}")
    asked = len(gateway.teacher.log())
    waiting = [asyncio.create_task(chat(gateway, "alone", f"waits {number}")) for number in range(8)]
    await asyncio.sleep(0.5)
    assert gateway.metric('meteor_teacher_breaker_open{provider="alone"}') == 1
    assert len(gateway.teacher.log()) - asked <= 4, "a probe each 0.2 s"
    gateway.teacher.heal()
    replies = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(reply, TransientError) for reply in replies) <= 1
    assert (await chat(gateway, "alone", "well")).text


async def test_as_many_calls_at_once_as_the_provider_bears(gateway: Gateway):
    """It refuses more than three; sixteen may go at once. Nobody's attempts are used up, and few are refused."""
    gateway.teacher.set(latency_s=0.05, bears=3)
    before = len(gateway.teacher.log())
    replies = await asyncio.gather(
        *(chat(gateway, "crowd", f"crowd {number}") for number in range(60)), return_exceptions=True
    )
    outcomes = Counter(entry["outcome"] for entry in gateway.teacher.log()[before:])
    assert outcomes["answered"] + outcomes["429"] == outcomes.total()
    assert outcomes["429"] <= 13 + 20
    assert sum(isinstance(reply, TransientError) for reply in replies) <= 3
    later = gateway.teacher.log()[before + 30 :]
    assert sum(entry["outcome"] == "429" for entry in later) < len(later) / 2
    assert gateway.metric('meteor_teacher_concurrency{provider="crowd"}') < 12


async def test_a_limit_per_minute_spreads_what_is_more(gateway: Gateway):
    started = time.monotonic()
    await asyncio.gather(*(chat(gateway, "slow", f"slow {number}") for number in range(11)))
    assert time.monotonic() - started > 0.9
    at = [entry["at"] for entry in gateway.teacher.log() if entry["model"] == "slow-model"]
    assert max(at) - min(at) > 0.9


async def raw(gateway: Gateway, about: str, **headers: str) -> dict[str, Any]:
    body = {"model": "default", "messages": ask(about), "max_tokens": 50, "temperature": 0.7}
    everyone = {"authorization": f"Bearer {TOKEN}", "x-meteor-project": "p"}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{gateway.url}/v1/chat/completions", json=body, headers=everyone | headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["meteor"]


async def test_samples_are_kept_by_seed_or_by_example_and_number(gateway: Gateway):
    draws = [await raw(gateway, "draw") for _ in range(2)]
    assert draws[0] != draws[1], "without seed, example and number each answer is another draw"
    together = await asyncio.gather(*(raw(gateway, "at once") for _ in range(3)))
    assert len({draw["call_id"] for draw in together}) == 3
    wanted = [{}, {"x-meteor-sample": "0"}, {"x-meteor-sample": "1"}, {"x-meteor-sample": "1"}]
    first, zero, one, again = [await raw(gateway, "draw", **{"x-meteor-example": "e"}, **more) for more in wanted]
    assert first == zero
    assert one == again
    assert first != one
    assert await raw(gateway, "draw", **{"x-meteor-example": "other"}) not in (first, one, *draws)
    seeded = [await chat(gateway, "default", "draw", temperature=0.7, seed=seed) for seed in (1, 1, 2)]
    assert [reply.cached for reply in seeded] == [False, True, False]


async def test_a_provider_without_schemas_is_not_sent_one_and_what_it_says_is_counted(gateway: Gateway):
    schema = {"type": "object", "properties": {"correct": {"type": "boolean"}}, "required": ["correct"]}
    format_ = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    for provider, sent in (("default", "json_schema"), ("spare", None)):
        await chat(gateway, provider, "schema", response_format=format_)
        assert gateway.teacher.log()[-1]["response_format"] == sent
    for provider, met in (("default", "true"), ("spare", "false")):
        assert gateway.metric(f'meteor_teacher_structured_total{{met="{met}",provider="{provider}"}}') == 1


async def test_the_ledger_is_what_the_teacher_saw(started: Gateway):
    """Over all that this module did before. An attempt at the provider that is down was seen by nobody."""
    assert_ledger_is_log(started)
