"""Every simulated provider through the gateway's own door: what it refuses is learned, its answers come out in one form, its
failures name the fault and the setting.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest

from services.strong_model.gateway.negotiate import Negotiation
from services.strong_model.gateway.providers import of_file
from services.strong_model.worker.teach import teach
from shared.contracts.errors import TransientError, UserError
from shared.contracts.providers import ProvidersStatus, ProviderStatus
from shared.contracts.rows import TeacherInput
from shared.contracts.steps import Sampling, TeachParams
from shared.ledger.learned_store import LearnedStore
from tests.fakes.gateway import PATIENT, TOKEN, Gateway, running_gateway
from tests.fakes.providers.server import KEY, providers_file, simulated_providers
from tests.fakes.providers.table import PROVIDERS
from tests.fakes.start import ROOT, FakeServer

AZURE = {"query": {"api-version": "1"}, "api_key_header": "api-key"}
SILENT = {"METEOR_STRONG_SILENCE_TIMEOUT": "PT4S", "METEOR_STRONG_ATTEMPTS": "2"}
VERDICT = {"type": "object", "properties": {"correct": {"type": "boolean"}}, "required": ["correct"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": VERDICT}}
ANSWER = "the answer in five words"
OPTIONS: dict[str, Any] = {"max_tokens": 256, "temperature": 0.0, "top_p": 0.9, "seed": 1}
MINIMAL = {"gpt-5.1", "gemini-3", "grok", "sglang"}  # are asked for as little reasoning as there is


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, FakeServer]]:
    with simulated_providers() as servers:
        yield servers


def written(servers: dict[str, FakeServer], folder: Path, **entries: dict[str, Any]) -> Path:
    """METEOR_PROVIDERS_FILE with all of them. entries: more options of some."""
    content = providers_file(servers, azure=AZURE, azure_v1={"api_key_header": "api-key"})
    same = {"api_key_env": "SIMULATED_KEY"}
    content["providers"]["crowd"] = same | {"base_url": servers["kimi"].base_url, "model": "crowd-model"}
    content["providers"]["own-fields"] = same | {"base_url": servers["plain"].base_url, "model": "own-model"} | {
        "extra": {"enable_thinking": False}, "omit": ["seed"], "reasoning_effort": "low", "stream": False,
    }  # fmt: skip
    for name, more in entries.items():
        content["providers"][name] |= more
    path = folder / "providers.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def gateway(servers: dict[str, FakeServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("manners")
    path = written(servers, folder)
    env = {"METEOR_PROVIDERS_FILE": str(path), "SIMULATED_KEY": KEY} | PATIENT | SILENT
    with running_gateway(servers["plain"], folder, **env) as gateway:
        yield gateway


def ask(answer: str = ANSWER) -> list[dict[str, str]]:
    asked = f"Question: what?\n\nKnown correct answer: {answer}"
    return [{"role": "system", "content": "You are an expert."}, {"role": "user", "content": asked}]


async def chat(gateway: Gateway, provider: str, messages: list[dict[str, str]] | None = None, **more: Any) -> Any:
    options = OPTIONS | more
    async with gateway.client() as client:
        return await client.chat(model=provider, messages=messages or ask(), **options)


async def learned(gateway: Gateway, provider: str, http: httpx.AsyncClient) -> ProviderStatus:
    response = await http.get(f"{gateway.url}/internal/providers")
    status = ProvidersStatus.model_validate_json(response.content)
    return next(one for one in status.providers if one.name == provider)


def to_gateway() -> httpx.AsyncClient:
    return httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60, verify=False, trust_env=False)


class Tried(NamedTuple):
    """One provider after an answer, another one and a verdict. requests: how many the second answer took."""

    answer: dict[str, Any]
    again: dict[str, Any]
    status: ProviderStatus
    requests: int
    verdict: dict[str, Any]


@pytest.fixture(scope="module")
def tried(gateway: Gateway, servers: dict[str, FakeServer], slow: Any) -> dict[str, Tried]:
    """All of them at the same time."""

    async def everything() -> list[Tried]:
        async with to_gateway() as http:
            return await asyncio.gather(*(_try(gateway, servers[name], name, http) for name in WANTS))

    return dict(zip(WANTS, asyncio.run(everything()), strict=True))


async def _try(gateway: Gateway, server: FakeServer, name: str, http: httpx.AsyncClient) -> Tried:
    async def post(messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
        body = (
            {"model": name, "messages": messages}
            | OPTIONS
            | ({"reasoning_effort": "minimal"} if name in MINIMAL else {})
        )
        return (await http.post(f"{gateway.url}/v1/chat/completions", json=body | more)).json()

    first = ask()
    if name == "sonar":
        first.insert(1, {"role": "user", "content": "Listen."})
    answer = await post(first)
    status = await learned(gateway, name, http)
    before = len(server.log())
    again = await post(ask("another answer"))
    requests = len(server.log()) - before
    form = 'Reply with one JSON object only: {"correct": true or false}.'
    blocks = "<reference>\na\n</reference>\n<answer>\na\n</answer>"
    verdict = await post(
        [{"role": "system", "content": form}, {"role": "user", "content": blocks}], response_format=FORMAT
    )
    return Tried(answer, again, status, requests, verdict)


@pytest.fixture(scope="module")
def slow(gateway: Gateway) -> Iterator[dict[str, Future[Any]]]:
    """Two providers that need longer than one may be silent; they are asked while the others are tried."""
    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(lambda name=name: asyncio.run(chat(gateway, name))) for name in ("slow", "slow-alive")}


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
    "gpt-5.1": ({"reasoning_effort", "max_tokens", "temperature", "top_p"}, 0),
    "claude-thinking": ({"temperature"}, ROOM),
    "gemini-3": ({"reasoning_effort", "seed"}, 0),
    "grok": ({"seed", "top_p", "reasoning_effort"}, 0),
    "cerebras": ({"seed", "top_p"}, 0),
    "sonar": ({"messages"}, 0),
    "nim": ({"seed"}, 0),
    "bedrock": ({"seed"}, 0),
    "tgi": ({"temperature"}, 0),
    "llama-cpp": ({"messages"}, 0),
    "sglang": ({"reasoning_effort"}, 0),
    "glm": (set(), 0),
    "cohere": ({"seed"}, 0),
    "minimax": ({"temperature"}, 0),
    "azure-v1": ({"top_p"}, 0),
    "plain": (set(), 0),
}
EACH_TIME = {"tgi"}  # what the prompt leaves of its context differs from request to request


@pytest.mark.parametrize("name", WANTS)
def test_each_provider_teaches_and_judges_and_is_learned_once(gateway: Gateway, tried: dict[str, Tried], name: str):
    one = tried[name]
    (choice,) = one.answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (ANSWER, "stop")
    fields, room = WANTS[name]
    assert ({change.field for change in one.status.changed}, one.status.room) == (fields, room)
    assert all(change.why for change in one.status.changed), "the provider's own words"
    assert gateway.row(one.answer["meteor"]["call_id"]).outcome == "ok"
    assert one.again["choices"][0]["message"]["content"] == "another answer"
    assert one.requests == (2 if name in EACH_TIME else 1)
    assert json.loads(one.verdict["choices"][0]["message"]["content"]) == {"correct": True}


def test_a_refused_effort_becomes_the_nearest_that_the_provider_has(servers: dict[str, FakeServer], tried: Any):
    sent = [
        entry["body"].get("reasoning_effort") for entry in servers["gpt-5.1"].log() if entry["outcome"] == "answered"
    ]
    assert set(sent) == {"low"}


@pytest.mark.parametrize("name", ["plain", "lm-studio", "openrouter", "mistral", "kimi"])
async def test_a_stream_has_text_and_reasoning_apart(gateway: Gateway, name: str):
    text, thoughts, reason = "", "", None
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=TOKEN, max_retries=0) as client:
        messages: Any = ask("streamed words")
        async for chunk in await client.chat.completions.create(
            model=name, messages=messages, stream=True, max_tokens=400
        ):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                thoughts += getattr(choice.delta, "reasoning_content", None) or ""
                reason = choice.finish_reason or reason
    assert (text.strip(), bool(thoughts), reason) == ("streamed words", name != "plain", "stop")


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
    async with to_gateway() as http:
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
    async with to_gateway() as http:
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
    ("bedrock", "FAR TOO LONG", "teacher_prompt_too_long", "Input is too long"),
    ("llama-cpp", "FAR TOO LONG", "teacher_prompt_too_long", "Context size"),
    ("llama-cpp", "FLAGGED", "teacher_error", "unloaded"),
    ("glm", "BROKE", "teacher_quota_exhausted", "recharge"),
    ("minimax", "FLAGGED", "teacher_refused_row", "sensitive"),
    ("azure-v1", "FLAGGED", "teacher_refused_row", "usage policy"),
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


def test_silence_is_timed_and_not_the_whole(slow: dict[str, Future[Any]], servers: dict[str, FakeServer]):
    """Both take longer than a provider may be silent; one of them shows that it is alive."""
    assert slow["slow-alive"].result().text == ANSWER
    with pytest.raises(TransientError, match="METEOR_STRONG_SILENCE_TIMEOUT") as caught:
        slow["slow"].result()
    assert caught.value.code == "teacher_timeout"
    assert len(servers["slow"].log()) == 1, "it is not sent again"


async def test_what_was_learned_is_stored_for_these_settings_and_can_be_forgotten(
    gateway: Gateway, servers: dict[str, FakeServer], tmp_path: Path, tried: Any
):
    path = written(servers, tmp_path, kimi={"omit": ["top_p"]})
    table, store = of_file(path, {"SIMULATED_KEY": KEY}), LearnedStore(gateway.ledger.engine)
    async with to_gateway() as http:
        stored, running = Negotiation(table["gpt-5"], store).status(), await learned(gateway, "gpt-5", http)
        assert stored.room == running.room > 0
        assert [change.field for change in stored.changed] == [change.field for change in running.changed] != []
        assert not Negotiation(table["kimi"], store).learned.rules, "of other settings"
        forgotten = await http.delete(f"{gateway.url}/internal/providers/gpt-5/learned")
        assert (await http.delete(f"{gateway.url}/internal/providers/none/learned")).status_code == 404
    assert (forgotten.json()["room"], forgotten.json()["changed"]) == (0, [])
    assert not Negotiation(table["gpt-5"], store).learned.rules


async def test_a_teachers_reference_reaches_it(gateway: Gateway):
    params = TeachParams(teacher="kimi", domain="d", sampling=Sampling(max_tokens=300), ground=True)
    async with gateway.client() as client:
        rows = [TeacherInput(id="a", question="q?", reference="the reference")]
        responses, _ = await teach(client, params, rows, lambda *_: None)
    assert responses[0].answer == "the reference"


def test_the_table_is_tried_whole():
    assert set(WANTS) | {"no-country", "no-model", "no-tools", "slow", "slow-alive"} == set(PROVIDERS)
    page = (ROOT / "docs" / "reference" / "providers.md").read_text()
    assert [name for name in PROVIDERS if f"`{name}`" not in page] == []
