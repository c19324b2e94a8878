"""Every simulated provider through the gateway's own door: what it refuses is learned, its answers come out in one form, its
failures name the fault and the setting.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.strong_model.worker.teach import teach
from shared.contracts.errors import TransientError, UserError
from shared.contracts.providers import ProvidersStatus, ProviderStatus
from shared.contracts.rows import TeacherInput
from shared.contracts.steps import Sampling, TeachParams
from tests.fakes.gateway import PATIENT, TOKEN, Gateway, running_gateway
from tests.fakes.providers.server import KEY, providers_file, simulated_providers
from tests.fakes.providers.table import PROVIDERS
from tests.fakes.start import FakeServer

AZURE = {"query": {"api-version": "1"}, "api_key_header": "api-key"}
SILENT = {"METEOR_STRONG_SILENCE_TIMEOUT": "PT4S", "METEOR_STRONG_ATTEMPTS": "2"}
VERDICT = {"type": "object", "properties": {"correct": {"type": "boolean"}}, "required": ["correct"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": VERDICT}}
ANSWER = "the answer in five words"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, FakeServer]]:
    with simulated_providers() as servers:
        yield servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manners")


def start(servers: dict[str, FakeServer], folder: Path, **entries: dict[str, Any]) -> Any:
    content = providers_file(servers, azure=AZURE)
    same = {"api_key_env": "SIMULATED_KEY"}
    content["providers"]["crowd"] = same | {"base_url": servers["kimi"].base_url, "model": "crowd-model"}
    content["providers"]["own-fields"] = same | {"base_url": servers["plain"].base_url, "model": "own-model"} | {
        "extra": {"enable_thinking": False}, "omit": ["seed"], "reasoning_effort": "low", "stream": False,
    }  # fmt: skip
    for name, more in entries.items():
        content["providers"][name] |= more
    path = folder / "providers.json"
    path.write_text(json.dumps(content))
    env = {"METEOR_PROVIDERS_FILE": str(path), "SIMULATED_KEY": KEY} | PATIENT | SILENT
    return running_gateway(servers["plain"], folder, **env)


@pytest.fixture(scope="module")
def gateway(servers: dict[str, FakeServer], folder: Path) -> Iterator[Gateway]:
    with start(servers, folder) as gateway:
        yield gateway


def ask(answer: str = ANSWER) -> list[dict[str, str]]:
    asked = f"Question: what?\n\nKnown correct answer: {answer}"
    return [{"role": "system", "content": "You are an expert."}, {"role": "user", "content": asked}]


async def chat(gateway: Gateway, provider: str, messages: list[dict[str, str]] | None = None, **more: Any) -> Any:
    options = {"max_tokens": 256, "temperature": 0.0, "top_p": 0.9, "seed": 1} | more
    async with gateway.client() as client:
        return await client.chat(model=provider, messages=messages or ask(), **options)


async def learned(gateway: Gateway, provider: str) -> ProviderStatus:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:
        response = await http.get(f"{gateway.url}/internal/providers")
    status = ProvidersStatus.model_validate_json(response.content)
    return next(one for one in status.providers if one.name == provider)


ROOM = 2048
WANTS = {  # provider -> what the gateway finds out, and the room that its reasoning needs
    "gpt-5": ({"max_tokens", "temperature", "top_p"}, ROOM),
    "o1-mini": ({"messages", "max_tokens", "temperature", "top_p"}, ROOM),
    "o3-unverified": ({"stream", "max_tokens", "temperature", "top_p"}, 0),
    "claude-opus": ({"temperature", "top_p"}, 0),
    "claude-either": ({"top_p"}, 0),
    "gemini": ({"seed"}, ROOM),
    "mistral": ({"seed"}, 0),
    "deepseek": (set(), 0),
    "groq": ({"seed"}, 0),
    "azure": (set(), 0),
    "openrouter": (set(), 0),
    "ollama": (set(), ROOM),
    "lm-studio": (set(), 0),
    "gemma": ({"messages"}, 0),
    "vllm-reasoning": (set(), ROOM),
    "kimi": ({"temperature", "top_p"}, 0),
    "together": ({"seed"}, 0),
    "fireworks": ({"seed"}, 0),
    "qwen": (set(), 0),
    "fastapi": ({"stream_options", "top_p", "stream"}, 0),
    "plain": (set(), 0),
}


@pytest.mark.parametrize("name", WANTS)
async def test_each_provider_teaches_and_is_learned(gateway: Gateway, servers: dict[str, FakeServer], name: str):
    reply = await chat(gateway, name)
    assert (reply.text, reply.finish_reason) == (ANSWER, "stop")
    fields, room = WANTS[name]
    status = await learned(gateway, name)
    assert ({change.field for change in status.changed}, status.room) == (fields, room)
    assert all(change.why for change in status.changed), "the provider's own words"
    assert gateway.row(reply.call_id).outcome == "ok"
    before = len(servers[name].log())
    again = await chat(gateway, name, ask("another answer"))
    assert (again.text, len(servers[name].log())) == ("another answer", before + 1), "learned once"


JUDGES = sorted(WANTS)


@pytest.mark.parametrize("name", JUDGES)
async def test_each_provider_judges(gateway: Gateway, name: str):
    asked = 'Reply with one JSON object only: {"correct": true or false}.'
    blocks = "<reference>\na\n</reference>\n<answer>\na\n</answer>"
    messages = [{"role": "system", "content": asked}, {"role": "user", "content": blocks}]
    reply = await chat(gateway, name, messages, response_format=FORMAT)
    assert json.loads(reply.text) == {"correct": True}


async def test_every_request_that_arrived_has_its_own_row(gateway: Gateway, servers: dict[str, FakeServer]):
    """Refused attempts are unpaid; those that reasoning used up are paid and named."""
    await chat(gateway, "gpt-5", ask("rows"))
    arrived = {entry["request_id"] for entry in servers["gpt-5"].log()}
    rows = [row for row in gateway.rows() if row.provider == "gpt-5" and not row.cached]
    assert arrived == {row.id for row in rows}
    outcomes = Counter(row.outcome for row in rows)
    assert outcomes["thought"] == 1
    assert all(row.output_tokens == 0 for row in rows if row.outcome == "http_400")
    assert next(row for row in rows if row.outcome == "thought").output_tokens == 256


async def test_what_was_changed_is_in_the_answer(gateway: Gateway):
    body = {"model": "kimi", "messages": ask("changed"), "temperature": 0.0, "max_tokens": 500}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
        answer = (await http.post(f"{gateway.url}/v1/chat/completions", json=body)).json()
    (change,) = answer["meteor"]["changed"]
    assert (change["field"], change["how"]) == ("temperature", "left out")
    assert "only 1 is allowed" in change["why"]


async def test_one_request_learns_while_the_others_wait(gateway: Gateway, servers: dict[str, FakeServer]):
    before = len(servers["kimi"].log())
    replies = await asyncio.gather(*(chat(gateway, "crowd", ask(f"crowd {n}")) for n in range(16)))
    assert [reply.text for reply in replies] == [f"crowd {n}" for n in range(16)]
    outcomes = Counter(entry["outcome"] for entry in servers["kimi"].log()[before:])
    assert outcomes == {"refused": 2, "answered": 16}


async def test_what_the_operator_sets_is_sent(gateway: Gateway, servers: dict[str, FakeServer]):
    await chat(gateway, "own-fields", ask("own fields"))
    sent = servers["plain"].log()[-1]["body"]
    assert (sent["enable_thinking"], sent["reasoning_effort"], sent.get("stream"), sent.get("seed")) == (
        False,
        "low",
        None,
        None,
    )


async def test_tools_are_never_left_out(gateway: Gateway, servers: dict[str, FakeServer]):
    body = {"model": "no-tools", "messages": ask("tools"), "tools": [{"type": "function", "function": {"name": "f"}}]}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
        response = await http.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "teacher_rejected")
    assert "tools" in response.json()["error"]["message"]
    assert len(servers["no-tools"].log()) == 1


FAULTY = [  # (provider, word of the prompt, code, words that the user sees)
    ("gpt-5", "FLAGGED", "teacher_refused_row", "usage policy"),
    ("gpt-5", "FAR TOO LONG", "teacher_prompt_too_long", "8192"),
    ("claude-opus", "FLAGGED", "teacher_refused_row", "content filtering"),
    ("claude-opus", "FAR TOO LONG", "teacher_prompt_too_long", "200000"),
    ("gemini", "FLAGGED", "teacher_refused_row", "without a choice"),
    ("gemini", "FAR TOO LONG", "teacher_prompt_too_long", "input token count"),
    ("deepseek", "FLAGGED", "teacher_refused_row", "Content Exists Risk"),
    ("groq", "FAR TOO LONG", "teacher_prompt_too_long", "Request too large"),
    ("azure", "FLAGGED", "teacher_refused_row", "content management policy"),
    ("openrouter", "FLAGGED", "teacher_refused_row", "violence"),
    ("openrouter", "UPSTREAM", "teacher_error", "upstream is overloaded"),
    ("openrouter", "BROKEN", "teacher_error", "finish_reason error"),
    ("kimi", "FLAGGED", "teacher_refused_row", "high risk"),
    ("qwen", "FLAGGED", "teacher_refused_row", "inappropriate"),
    ("fastapi", "FAR TOO LONG", "teacher_prompt_too_long", "2048"),
    ("no-country", "x", "teacher_access_denied", "Country, region"),
    ("no-model", "x", "teacher_model_not_found", "model of 'no-model'"),
]


@pytest.mark.parametrize(("name", "word", "code", "words"), FAULTY, ids=[f"{row[0]}-{row[1]}" for row in FAULTY])
async def test_a_failure_says_whose_it_is(gateway: Gateway, name: str, word: str, code: str, words: str):
    before = len(gateway.rows())
    with pytest.raises((UserError, TransientError)) as caught:
        await chat(gateway, name, ask(f"{word} about it"))
    assert caught.value.code == code
    assert words in caught.value.message
    assert KEY not in caught.value.message
    if code not in ("teacher_error",):
        assert sum(row.outcome != "http_400" for row in gateway.rows()[before:]) <= 1, "a fault that stays is met once"


async def test_silence_is_timed_and_not_the_whole(gateway: Gateway, servers: dict[str, FakeServer]):
    """Both take longer than a provider may be silent; one of them shows that it is alive."""
    assert (await chat(gateway, "slow-alive")).text == ANSWER
    with pytest.raises(TransientError, match="METEOR_STRONG_SILENCE_TIMEOUT") as caught:
        await chat(gateway, "slow")
    assert caught.value.code == "teacher_timeout"
    assert len(servers["slow"].log()) == 1, "it is not sent again"


async def test_a_restart_learns_nothing_anew_and_a_new_setting_forgets(
    gateway: Gateway, servers: dict[str, FakeServer], folder: Path, tmp_path: Path
):
    assert (await learned(gateway, "gpt-5")).room
    outcomes = [entry["outcome"] for entry in servers["gpt-5"].log()]
    gateway.process.terminate()
    gateway.process.wait(20)
    with start(servers, folder, kimi={"omit": ["top_p"]}) as restarted:
        assert (await chat(restarted, "gpt-5", ask("after a restart"))).text == "after a restart"
        assert [entry["outcome"] for entry in servers["gpt-5"].log()] == [*outcomes, "answered"]
        assert not (await learned(restarted, "kimi")).changed
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:
            forgotten = await http.delete(f"{restarted.url}/internal/providers/gpt-5/learned")
            assert (await http.delete(f"{restarted.url}/internal/providers/none/learned")).status_code == 404
        assert (forgotten.json()["room"], forgotten.json()["changed"]) == (0, [])
        params = TeachParams(teacher="kimi", domain="d", sampling=Sampling(max_tokens=300), ground=True)
        async with restarted.client() as client:
            rows = [TeacherInput(id="a", question="q?", reference="the reference")]
            responses, _ = await teach(client, params, rows, lambda *_: None)
        assert responses[0].answer == "the reference"


def test_the_table_is_tried_whole():
    assert set(WANTS) | {"no-country", "no-model", "no-tools", "slow", "slow-alive"} == set(PROVIDERS)
