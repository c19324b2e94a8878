"""A real vLLM under a real engine process: answers, hot-loaded adapters, and what happens when either is killed.

One engine serves all tests, in this order; the last ones kill it. Three starts of vLLM in all, and one that is cut short. The whole
model that it swaps to has a chat template that lacks everything at once: the engine renders what the trainer renders, and stops where
the template ends a turn.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydantic import SecretStr
from safetensors.numpy import load_file, save_file

from services.api.engine_client import EngineClient
from services.api.features.chat import service as chat
from services.api.features.chat import streams
from services.api.model_router import Target
from services.api.settings import ApiSettings
from services.strong_model.gateway import probe
from services.strong_model.gateway.chain import Gateway
from services.strong_model.gateway.probe import ProviderTest
from services.strong_model.gateway.providers import JudgeProviderSettings, TeacherSettings, providers
from services.strong_model.settings import StrongSettings
from services.trainer.publishing import WEIGHTS, publish, publish_weights
from services.weak_model.engine.answer_probe import AnswerProbe, differs
from services.weak_model.engine.health import is_healthy, serves
from services.weak_model.worker import adapter_check, completions
from services.weak_model.worker.prompts import answer_messages
from services.weak_model.worker.student_client import StudentClient
from shared.artifacts.chat_templates import read_prompts
from shared.artifacts.store import Artifacts
from shared.contracts.chat import ChatRequest, CompletionRequest, Message
from shared.contracts.engine import Priority
from shared.contracts.errors import FatalError, MeteorError
from shared.contracts.rows import Asked, StudentPrompt
from shared.contracts.steps import ModelRef, Sampling, StudentParams
from shared.jobs.schema import open_stores
from shared.ledger.store import open_ledger
from tests.fakes.chat_templates import CASES, QUESTION, SPECIAL_TOKENS, write_case
from tests.fakes.ports import free_port, wait_until
from tests.fakes.tiny_adapter import make_tiny_adapter, measure
from tests.fakes.tiny_model import make_tiny_llama

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TOKEN, START_S = "engine-test-token", 400
ROWS = [StudentPrompt(id=f"q{number}", question=f"Which command counts {number} lines?") for number in range(4)]
CASE = CASES["everything at once"]  # the chat template of the whole model: it lacks everything that a template may lack
MESSAGES = answer_messages(StudentPrompt(id="a", question=QUESTION))


class EngineProcess:
    """`python -m services.weak_model engine` with the tiny model. Not under a guard: its own must do."""

    def __init__(self, data: Path, model: Path):
        self.data = data
        self.model = model
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.control_port = free_port()
        self.log = data / "engine.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        settings = {
            "MODEL": self.model, "SERVED_NAME": "tiny", "PORT": self.port, "MAX_MODEL_LEN": 256, "MAX_NUM_SEQS": 16,
            "KV_CACHE_GB": 0.1, "MAX_LORA_RANK": 8, "CONTROL_PORT": self.control_port, "LINGER": "PT1S",
            "THREADS": 1,
        }  # fmt: skip
        env = os.environ | {f"METEOR_ENGINE_{name}": str(value) for name, value in settings.items()}
        env |= {"METEOR_DATA": str(self.data), "METEOR_INTERNAL_TOKEN": TOKEN, "METEOR_DEVICE_SHARING": "time"}
        env.pop("DATABASE_URL", None)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.weak_model", "engine"], env=env, stdout=log, stderr=log
            )

    def said(self, words: str) -> int:
        assert self.running.poll() is None, self.log.read_text()[-3000:]
        return self.log.read_text().count(words)

    @property
    def running(self) -> subprocess.Popen:
        assert self.process is not None
        return self.process

    def family(self) -> list[psutil.Process]:
        """The guard, vLLM's server and all that it started."""
        return psutil.Process(self.running.pid).children(recursive=True)

    def server(self) -> psutil.Process:
        """vLLM's HTTP server: the guard's child."""
        (guard,) = psutil.Process(self.running.pid).children()
        (server,) = guard.children()
        return server

    def sleep_mode(self) -> dict[str, Any]:
        """What the keeper found out, from its control port."""
        return httpx.get(f"http://127.0.0.1:{self.control_port}/status", trust_env=False).json()["sleep_mode"]

    def probes(self) -> dict[str, float]:
        """What the keeper saw in the answers to its fixed prompt, by outcome."""
        text = httpx.get(f"http://127.0.0.1:{self.control_port}/metrics", trust_env=False).text
        outcomes = re.findall(r'^meteor_engine_probes_total\{outcome="(\w+)"\} ([0-9.]+)$', text, re.MULTILINE)
        return {outcome: float(count) for outcome, count in outcomes}

    def client(self) -> StudentClient:
        return StudentClient(self.url, TOKEN, 120, 5, f"http://127.0.0.1:{self.control_port}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model, a whole one that differs and an adapter."""
    folder = tmp_path_factory.mktemp("engine")
    base = make_tiny_llama(folder / "tiny")
    write_case(make_tiny_llama(folder / "whole", seed=7), CASE)
    measure(base, make_tiny_adapter(base, folder / "adapter"))
    measure(base, make_tiny_adapter(base, folder / "other", seed=2))
    return folder


@pytest.fixture(scope="module")
def engine(made: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(made, made / "tiny")
    engine.start()
    try:
        wait_until(lambda: engine.said("engine ready"), START_S, "vLLM")
        yield engine
    finally:
        family = engine.family() if engine.running.poll() is None else []
        engine.running.kill()
        engine.running.wait()
        for left in psutil.wait_procs(family, timeout=10)[1]:
            left.kill()


@pytest.fixture(scope="module")
def adapter(engine: EngineProcess, made: Path) -> str:
    """The hash of an adapter that is published, as the trainer does it, while the engine runs."""
    return publish(made / "adapter", Artifacts(engine.data / "artifacts"), engine.data / "serving", str(engine.model))


def params(adapter: str | None = None, weights: str | None = None, **sampling) -> StudentParams:
    model = ModelRef(base="tiny", base_hash="0" * 64, adapter=adapter, weights=weights)
    return StudentParams(model=model, domain="Linux shell", sampling=Sampling(**({"max_tokens": 12} | sampling)))


async def answers(engine: EngineProcess, rows: list[StudentPrompt], given: StudentParams) -> list[str]:
    async with engine.client() as client:
        await client.until_served(given.model.served_by, lambda _: None)
        replies, _ = await completions.answer(client, given, rows, lambda *_, **__: None)
    assert [row.id for row in replies] == [row.id for row in rows]
    return [row.answer for row in replies]


async def test_greedy_answers_do_not_depend_on_company_or_order(engine: EngineProcess):
    together = await answers(engine, ROWS, params())
    assert all(together)
    assert await answers(engine, list(reversed(ROWS)), params()) == list(reversed(together))
    assert await answers(engine, ROWS[2:3], params()) == together[2:3]


async def test_a_chat_goes_ahead_of_the_rows_that_wait(engine: EngineProcess):
    """Many times as many rows as the engine computes at once; in the order of coming the chat would be the last to begin.

    It is asked from a thread as soon as the first row has ended: on a busy machine this loop is late.
    """
    rows = [StudentPrompt(id=f"q{number}", question=f"Count {number} lines") for number in range(240)]
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    headers = {"authorization": f"Bearer {TOKEN}"}
    first, ended_at = threading.Event(), list[float]()

    def progress(*_: Any, **__: Any) -> None:
        ended_at.append(time.monotonic())
        first.set()

    def chat() -> tuple[httpx.Response, float]:
        with httpx.Client(base_url=engine.url, headers=headers, timeout=120) as http:
            first.wait(120)
            return http.post("/v1/chat/completions", json=asked), time.monotonic()

    async with engine.client() as client:
        work = asyncio.create_task(completions.answer(client, params(max_tokens=48), rows, progress))
        answer, answered_at = await asyncio.to_thread(chat)
        await work
    assert answer.status_code == 200, answer.text
    ended = sum(at < answered_at for at in ended_at)
    assert ended < 220, f"{ended} of {len(rows)} rows had ended when the chat had its answer"


async def test_the_chat_proxy_finds_all_its_routes_and_hides_the_adapters_name(engine: EngineProcess, adapter: str):
    client = EngineClient(ApiSettings(engine_url=engine.url), TOKEN)
    rename = streams.renaming(adapter, "expert")
    bodies = (
        ChatRequest(model="x", messages=[Message(role="user", content="hi")], max_tokens=4, stream=True),
        CompletionRequest(model="x", prompt="hi", max_tokens=4, stream=True),
    )
    target = Target("expert", adapter, "", "expert")
    failed: list[MeteorError] = []
    try:
        for body in bodies:
            made = chat.asked(body, target, "proj_other", None)
            parts = client.parts(made.path, made.body, "")
            streamed = b"".join([lines async for lines in streams.shown_lines(parts, rename, failed.append)])
            whole = rename(
                await client.whole(made.path, made.body | {"stream": False, "priority": Priority.SHADOW}, "")
            )
            for said in (streamed, whole):
                assert b'"model":"expert"' in said, said
                assert adapter.encode() not in said
    finally:
        await client.aclose()
    assert not failed


async def test_sampled_answers_with_seeds_to_more_text_than_is_read_at_once(engine: EngineProcess):
    """vLLM reads 2,048 tokens at once. On a CPU it died of a prompt that was cut there, and of each next one."""
    rows = [StudentPrompt(id=f"long{n}", question=f"Number {n} of " + "the lines " * 95) for n in range(16)]
    texts = await answers(engine, rows, params(temperature=0.8, seed=3, max_tokens=4))
    assert len(texts) == 16
    assert await answers(engine, rows[5:6], params(temperature=0.8, seed=3, max_tokens=4)) == texts[5:6]


async def test_sampled_answers_follow_the_rows_seed(engine: EngineProcess):
    first = await answers(engine, ROWS, params(temperature=1.0, seed=1))
    assert await answers(engine, ROWS[1:2], params(temperature=1.0, seed=1)) == first[1:2]
    assert await answers(engine, ROWS, params(temperature=1.0, seed=2)) != first


async def test_cut_off_and_too_long_are_counted_not_raised(engine: EngineProcess):
    rows = [ROWS[0], StudentPrompt(id="long", question="many words " * 400)]
    async with engine.client() as client:
        replies, metrics = await completions.reason(client, params(max_tokens=2), rows, lambda *_, **__: None)
    assert [row.finish_reason for row in replies] == ["length", "too_long"]
    assert replies[1].answer == ""
    assert (metrics["cut_off"], metrics["too_long"], metrics["n"]) == (1, 1, 2)
    assert metrics["tokens"] == 2


async def test_an_answer_may_use_the_rest_of_the_context_and_no_more(engine: EngineProcess):
    (text,) = await answers(engine, [StudentPrompt(id="q", question="word " * 20)], params(max_tokens=32_000))
    assert text


async def test_a_vllm_as_teacher_is_found_out_by_the_test_of_a_provider(
    engine: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As `meteor providers test` finds out any vLLM of the user's own. The questions are the same each time: random weights have
    no answer to some words."""
    monkeypatch.setattr(probe, "_word", lambda: "one")
    given = TeacherSettings(base_url=f"{engine.url}/v1", model="tiny", api_key=SecretStr(TOKEN))
    table = providers(given, JudgeProviderSettings())
    gateway = Gateway(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3"), table, StrongSettings())
    report = await ProviderTest(gateway, "default").run()
    await gateway.close(5)
    assert (report.answers, report.error, report.listed, report.context) == (True, None, True, 256), report
    assert (report.changed, report.room, report.system_role, report.counts_tokens) == ([], 0, "kept", True)
    assert (report.seed, report.logprobs, report.batch, report.structured) == ("honoured", True, False, "json_schema")


def test_the_token_is_asked_for_and_no_command_line_shows_it(engine: EngineProcess):
    assert serves(engine.url, TOKEN, "tiny")
    assert not serves(engine.url, "wrong", "tiny")
    assert TOKEN not in " ".join(" ".join(process.cmdline()) for process in engine.family())


def test_a_ready_engine_has_a_row_in_workers(engine: EngineProcess):
    jobs = open_stores(f"sqlite:///{engine.data / 'meteor.sqlite3'}").jobs
    wait_until(lambda: jobs.live_workers(10), 60, "the heartbeat")
    (row,) = jobs.live_workers(10)
    assert (row.service, row.queue, row.slots) == ("engine", None, 16)


async def test_an_adapter_is_loaded_by_its_hash_at_the_first_request(engine: EngineProcess, adapter: str):
    bare = await answers(engine, ROWS, params())
    adapted = await answers(engine, ROWS, params(adapter=adapter))
    assert all(one != other for one, other in zip(bare, adapted, strict=True))
    assert await answers(engine, ROWS, params()) == bare


async def test_the_engines_adapter_is_compared_with_the_trainers(engine: EngineProcess, adapter: str, made: Path):
    """The right one agrees. The tensors of the other one are called as in a wrapper: vLLM loads it, and leaves them out."""
    artifacts, serving = Artifacts(engine.data / "artifacts"), engine.data / "serving"
    ignored = publish(made / "other", artifacts, serving, str(engine.model))
    weights = serving / ignored / WEIGHTS
    inner, wrapped = "model.model.", "model.model.language_model."
    save_file({name.replace(inner, wrapped): values for name, values in load_file(weights).items()}, weights)
    async with engine.client() as client:
        await client.until_served("tiny", lambda _: None)
        agreement = (await adapter_check.check(client, artifacts, params(adapter=adapter).model))[adapter_check.KEY]
        assert (agreement["state"], agreement["tokens"] > 10, agreement["trainer_change"] > 0.5) == (
            "agrees",
            True,
            True,
        ), agreement
        assert agreement["share"] == pytest.approx(1, abs=0.1)
        with pytest.raises(FatalError) as caught:
            await adapter_check.check(client, artifacts, params(adapter=ignored).model)
    assert (caught.value.code, ignored in caught.value.message) == ("adapter_ignored", True)


async def test_the_fixed_prompt_tells_models_apart_and_no_model_from_itself_in_company(
    engine: EngineProcess, adapter: str
):
    probe = AnswerProbe(engine.url, TOKEN)
    base, adapted = probe.ask("tiny"), probe.ask(adapter)
    assert base is not None
    assert adapted is not None
    assert differs(base, adapted) is not None
    company = asyncio.create_task(answers(engine, ROWS * 4, params(adapter=adapter, max_tokens=48)))
    for name, kept in (("tiny", base), (adapter, adapted)):
        again = await asyncio.to_thread(probe.ask, name)
        assert again is not None
        assert differs(kept, again) is None
    await company


def test_an_engine_on_a_cpu_lends_its_device_and_cannot_sleep(engine: EngineProcess):
    assert engine.sleep_mode() == {"available": False, "reason": "vLLM has no sleep mode on a CPU"}
    headers = {"authorization": f"Bearer {TOKEN}"}
    asked = httpx.get(f"{engine.url}/sleep_mode", headers=headers, trust_env=False)  # of the sleep guard
    assert (asked.status_code, asked.json()) == (200, {"available": False})
    assert httpx.post(f"{engine.url}/sleep", headers=headers, trust_env=False).status_code == 501
    assert httpx.post(f"{engine.url}/sleep", trust_env=False).status_code == 401
    assert httpx.post(f"{engine.url}/collective_rpc", headers=headers, trust_env=False).status_code == 404


async def test_a_missing_adapter_is_named(engine: EngineProcess):
    with pytest.raises(FatalError, match="f" * 64) as caught:
        await answers(engine, ROWS, params(adapter="f" * 64))
    assert caught.value.code == "adapter_missing"


@dataclass(frozen=True)
class Swap:
    """The engine has left its base for a whole model. bare, adapted: the base's answers before, without and with the adapter."""

    whole: str
    bare: list[str]
    adapted: list[str]
    tuned: list[str]
    family: list[psutil.Process]


@pytest.fixture(scope="module")
def swap(engine: EngineProcess, adapter: str, made: Path) -> Swap:
    whole = publish_weights(made / "whole", Artifacts(engine.data / "artifacts"), engine.data / "serving")

    async def swapped() -> Swap:
        bare, adapted = await answers(engine, ROWS, params()), await answers(engine, ROWS, params(adapter=adapter))
        family = engine.family()
        return Swap(whole, bare, adapted, await answers(engine, ROWS, params(weights=whole)), family)

    return asyncio.run(swapped())


@pytest.fixture(scope="module")
def trained(made: Path) -> list[int]:
    """The prompt of QUESTION in the tokens that the whole model would be trained on."""
    from services.trainer.train import data
    from services.trainer.train.model import load_tokenizer

    profile = read_prompts(made / "whole", steps_only=True)
    assert profile is not None
    return data.prompt_ids(load_tokenizer(made / "whole", profile), Asked(id="a", question=QUESTION))


def test_the_engine_swaps_to_a_whole_model(swap: Swap):
    assert all(tuned not in before for tuned, *before in zip(swap.tuned, swap.bare, swap.adapted, strict=True))
    assert psutil.wait_procs(swap.family, timeout=10)[1] == []


def posted(engine: EngineProcess, path: str, **body: Any) -> Any:
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{engine.url}{path}", json=body, headers=headers, timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_engine_renders_what_was_trained(engine: EngineProcess, swap: Swap, trained: list[int]):
    assert posted(engine, "/tokenize", model=swap.whole, messages=MESSAGES)["tokens"] == trained
    assert posted(engine, "/detokenize", model=swap.whole, tokens=trained)["prompt"] == CASE.prompt
    asked = {"model": swap.whole, "messages": MESSAGES, "max_tokens": 8, "return_token_ids": True}
    assert posted(engine, "/v1/chat/completions", **asked)["prompt_token_ids"] == trained


def test_turns_of_one_role_are_taken(engine: EngineProcess, swap: Swap):
    turns = [*MESSAGES, {"role": "user", "content": "Now?"}, {"role": "user", "content": "And now?"}]
    posted(engine, "/v1/chat/completions", model=swap.whole, messages=turns, max_tokens=8)


def test_an_answer_ends_with_the_templates_turn(engine: EngineProcess, swap: Swap):
    bias = {str(SPECIAL_TOKENS.index(CASE.turn_end)): 100}
    ended = posted(engine, "/v1/chat/completions", model=swap.whole, messages=MESSAGES, max_tokens=8, logit_bias=bias)
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert ended["usage"]["completion_tokens"] == 1


async def test_the_engine_returns_to_the_base_when_the_whole_model_is_killed(
    engine: EngineProcess, adapter: str, swap: Swap
):
    family = engine.family()
    said: list[str] = []
    asked = asyncio.Event()

    def say(what: str) -> None:
        said.append(what)
        asked.set()

    async with engine.client() as client:
        with pytest.raises(FatalError) as refused:  # asked past its keeper it says no, never another model's answer
            await completions.answer(client, params(), ROWS, lambda *_, **__: None)
        assert refused.value.code == "adapter_missing"
        back = asyncio.ensure_future(client.until_served("tiny", say))
        await asked.wait()
        engine.server().send_signal(signal.SIGKILL)
        await back
    assert engine.said("the engine was lost; restarting it") == 1
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert "the engine loads tiny, about " in said[-1]
    assert await answers(engine, ROWS, params()) == swap.bare
    assert await answers(engine, ROWS, params(adapter=adapter)) == swap.adapted
    wait_until(lambda: engine.probes()["same"] >= 2, 60, "the keeper's look at the loaded adapter")
    outcomes = engine.probes()  # base, whole model and adapters were seen; base and adapter again after the restart
    assert (outcomes["recorded"] >= 3, outcomes["different"], outcomes["replaced"]) == (True, 0, 0)


def test_nothing_survives_a_killed_engine_process(engine: EngineProcess):
    family = engine.family()
    assert len(family) >= 3
    engine.running.send_signal(signal.SIGKILL)
    engine.running.wait()
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert not is_healthy(engine.url)


def test_sigterm_ends_a_start_within_ten_seconds(engine: EngineProcess):
    engine.start()
    wait_until(lambda: len(engine.family()) >= 3, START_S, "vLLM's own children")
    family, began = engine.family(), time.monotonic()
    engine.running.terminate()
    assert engine.running.wait(10) == 0
    assert psutil.wait_procs(family, timeout=max(0.1, 10 - (time.monotonic() - began)))[1] == []
