"""The gateway as a process before a fake teacher: what it sends is what its ledger says, whatever goes wrong."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from services.strong_model.service import teach
from services.strong_model.settings import strong_settings
from services.strong_model.tasks import HANDLERS
from shared.artifacts import Artifacts
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.rows import Guided
from shared.contracts.steps import Sampling, StepKind, StepRequest, TeachParams
from shared.jobs.step_store import Claim
from shared.ledger.store import Ledger, open_ledger
from shared.ledger.tables import calls
from shared.platform.database import reading
from shared.platform.gateway import GatewayClient, origin_headers
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import FakeServer, running, start_teacher

TOKEN, KEY = "internal-token", "sk-teacher-key"
ASK: list[Any] = [{"role": "user", "content": "what is a tensor?"}]


class Gateway(NamedTuple):
    url: str
    ledger: Ledger
    teacher: FakeServer
    process: Popen

    def client(self, step: str = "step-1", job: str = "job-1", token: str = TOKEN, project: str = "p") -> GatewayClient:
        return GatewayClient(self.url, token, origin_headers(project, job, step, "distill"))

    def rows(self) -> list:
        with reading(self.ledger.engine) as connection:
            return list(connection.execute(select(calls).order_by(calls.c.created_at, calls.c.id)))

    def row(self, call_id: str | None):
        return next(row for row in self.rows() if row.id == call_id)


def gateway_env(teacher: FakeServer, folder: str, port: int) -> dict[str, str]:
    return {
        "METEOR_DATA": folder,
        "METEOR_INTERNAL_TOKEN": TOKEN,
        "METEOR_STRONG_PORT": str(port),
        "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT1.5S",
        "METEOR_STRONG_DEADLINE": "PT6S",
        "METEOR_STRONG_BACKOFF": "PT0.05S",
        "METEOR_STRONG_ATTEMPTS": "3",
        "METEOR_STRONG_CONCURRENCY": "8",
        "METEOR_STRONG_MAX_ANSWER_BYTES": "2000000",
        "METEOR_TEACHER_BASE_URL": teacher.base_url,
        "METEOR_TEACHER_MODEL": "fake-large",
        "METEOR_TEACHER_API_KEY": KEY,
        "METEOR_TEACHER_PRICE_INPUT": "1",
        "METEOR_TEACHER_PRICE_OUTPUT": "2",
        "METEOR_JUDGE_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",  # nobody listens there
        "METEOR_JUDGE_MODEL": "fake-judge",
    }


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Gateway]:
    folder = str(tmp_path_factory.mktemp("gateway"))
    port = free_port()
    with (
        start_teacher("--api-key", KEY) as teacher,
        running(
            ["services.strong_model", "gateway"],
            f"http://127.0.0.1:{port}/healthz",
            gateway_env(teacher, folder, port) | {"DATABASE_URL": f"sqlite:///{folder}/ledger.sqlite3"},
        ) as process,
    ):
        yield Gateway(f"http://127.0.0.1:{port}", open_ledger(f"sqlite:///{folder}/ledger.sqlite3"), teacher, process)


@pytest.fixture
def patient(tmp_path) -> Iterator[Gateway]:
    """A gateway of its own whose calls do not time out during a test."""
    with start_teacher() as teacher, patient_gateway(teacher, tmp_path) as gateway:
        yield gateway


@contextmanager
def patient_gateway(teacher: FakeServer, folder: Path) -> Iterator[Gateway]:
    port, ledger = free_port(), f"sqlite:///{folder}/ledger.sqlite3"
    env = gateway_env(teacher, str(folder), port) | {
        "DATABASE_URL": ledger,
        "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT60S",
        "METEOR_STRONG_DEADLINE": "PT60S",
    }
    url = f"http://127.0.0.1:{port}"
    with running(["services.strong_model", "gateway"], f"{url}/healthz", env) as process:
        yield Gateway(url, open_ledger(ledger), teacher, process)


@pytest.fixture
def gateway(started: Gateway) -> Iterator[Gateway]:
    yield started
    started.teacher.heal()


def ask(number: object) -> list[Any]:
    return [{"role": "user", "content": f"question {number}"}]


async def one(gateway: Gateway, messages: list[Any], **options):
    async with gateway.client() as client:
        return await client.chat(model=options.pop("model", "default"), messages=messages, max_tokens=50, **options)


async def test_an_answer_is_in_the_ledger_with_its_origin_tokens_and_price(gateway: Gateway):
    reply = await one(gateway, ask("ledger"), example_id="zeile-ä")
    row = gateway.row(reply.call_id)
    assert (row.project_id, row.job_id, row.step_id, row.phase, row.example_id) == (
        "p",
        "job-1",
        "step-1",
        "distill",
        "zeile-ä",
    )
    assert (row.state, row.outcome, row.provider, row.model) == ("settled", "ok", "default", "fake-large")
    assert (row.input_tokens, row.output_tokens) == (reply.input_tokens, reply.output_tokens)
    assert row.usd == pytest.approx((reply.input_tokens + 2 * reply.output_tokens) / 1e6)
    assert row.latency_ms > 0
    assert gateway.teacher.log()[-1]["request_id"] == reply.call_id
    assert gateway.teacher.logged_lines()[-1]["request_id"] == reply.call_id


async def test_the_same_request_is_answered_from_what_was_kept(gateway: Gateway):
    first = await one(gateway, ask("kept"), seed=1)
    sent = len(gateway.teacher.log())
    again = await one(gateway, ask("kept"), seed=1)
    assert (first.cached, again.cached) == (False, True)
    assert (again.text, again.call_id) == (first.text, first.call_id)
    assert len(gateway.teacher.log()) == sent
    assert gateway.rows()[-1].outcome == "cached"
    assert gateway.rows()[-1].usd == 0
    other_seed = await one(gateway, ask("kept"), seed=2)
    async with gateway.client(project="another") as client:
        other_project = await client.chat(model="default", messages=ask("kept"), max_tokens=50, seed=1)
    assert not other_seed.cached
    assert not other_project.cached


async def test_equal_requests_in_flight_are_sent_once(gateway: Gateway):
    gateway.teacher.latency(0.4)
    sent = len(gateway.teacher.log())
    replies = await asyncio.gather(*(one(gateway, ask("together")) for _ in range(6)))
    assert len(gateway.teacher.log()) == sent + 1
    assert len({reply.text for reply in replies}) == 1
    assert sum(not reply.cached for reply in replies) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "code", "sent"),
    [
        ("401", UserError, "teacher_auth_failed", 1),
        ("quota", UserError, "teacher_quota_exhausted", 1),
        ("400", UserError, "teacher_rejected", 1),
        ("429", TransientError, "teacher_rate_limited", 3),
        ("500", TransientError, "teacher_error", 3),
        ("html", TransientError, "teacher_bad_answer", 2),
        ("invalid_json", TransientError, "teacher_bad_answer", 2),
        ("empty_choice", TransientError, "teacher_bad_answer", 2),
        ("cut_stream", TransientError, "teacher_bad_answer", 2),
        ("huge", TransientError, "teacher_bad_answer", 2),
        ("hang", TransientError, "teacher_timeout", 3),
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


async def test_a_teacher_that_comes_back_is_waited_for(gateway: Gateway):
    gateway.teacher.fault("500", times=2)
    assert (await one(gateway, ask("twice"))).text
    gateway.teacher.fault("429", times=1, retry_after=0.7)
    started = time.monotonic()
    assert (await one(gateway, ask("slow down"))).text
    assert time.monotonic() - started >= 0.7


async def test_a_retry_after_beyond_the_deadline_is_passed_on_at_once(gateway: Gateway):
    gateway.teacher.fault("429", retry_after=600)
    started = time.monotonic()
    response = await asyncio.to_thread(
        httpx.post,
        f"{gateway.url}/v1/chat/completions",
        json={"model": "default", "messages": ask("much later")},
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    assert time.monotonic() - started < 2
    assert (response.status_code, response.headers["retry-after"]) == (429, "600")
    assert response.json()["error"]["code"] == "teacher_rate_limited"


async def test_empty_and_refused_answers_arrive_and_empty_ones_are_not_kept(gateway: Gateway):
    gateway.teacher.fault("empty", times=1)
    empty = await one(gateway, ask("empty"))
    assert empty.text == ""
    assert gateway.row(empty.call_id).outcome == "empty"
    assert not (await one(gateway, ask("empty"))).cached


async def test_cancelling_a_step_closes_its_calls_and_no_others(patient: Gateway):
    patient.teacher.latency(50)

    async def step(name: str, numbers: range) -> None:
        async with patient.client(step=name) as client:
            await asyncio.gather(
                *(client.chat(model="default", messages=ask(f"{n} of 12"), max_tokens=50) for n in numbers)
            )

    def rows() -> list:
        return [row for row in patient.rows() if row.step_id == "to-cancel"]

    stopped = asyncio.create_task(step("to-cancel", range(12)))  # 8 are sent, 4 wait for room
    await asyncio.to_thread(wait_until, lambda: len(patient.teacher.log()) == 8, 30)
    shared = int(patient.teacher.log()[0]["messages"][0]["content"].split()[1])
    other = asyncio.create_task(step("to-keep", range(shared, shared + 1)))  # waits for a call of the first step too
    await asyncio.to_thread(wait_until, lambda: joined(patient) == 1, 30)
    started = time.monotonic()
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    await asyncio.to_thread(wait_until, lambda: sum(row.outcome == "cancelled" for row in rows()) == 7)
    assert time.monotonic() - started < 5
    assert [row.state for row in rows() if row.outcome is None] == ["intent"], "another step waits for this one"
    assert not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    await asyncio.to_thread(wait_until, lambda: [row.outcome for row in rows()] == ["cancelled"] * 8)
    assert len(patient.teacher.log()) == 8, "calls that waited for room are not sent after a cancel"
    assert {entry["outcome"] for entry in patient.teacher.log()} == {"client_gone"}


def joined(gateway: Gateway) -> int:
    """Callers that wait for a call which another caller opened, by the gateway's own gauge."""
    text = httpx.get(f"{gateway.url}/metrics").text
    return next(
        int(float(line.split()[-1])) for line in text.splitlines() if line.startswith("meteor_teacher_joined_total")
    )


async def test_an_answer_is_kept_although_its_caller_went_away(gateway: Gateway):
    gateway.teacher.latency(0.6)
    before = len(gateway.teacher.log())
    with pytest.raises(httpx.ReadTimeout):
        await asyncio.to_thread(
            httpx.post,
            f"{gateway.url}/v1/chat/completions",
            json={"model": "default", "messages": ask("gone"), "max_tokens": 50, "temperature": 0.0},
            headers={"authorization": f"Bearer {TOKEN}", "x-meteor-project": "p"},
            timeout=0.3,
        )
    wait_until(lambda: gateway.rows()[-1].outcome == "ok", 5)
    assert gateway.teacher.log()[-1]["outcome"] == "answered"
    gateway.teacher.latency(0)
    assert (await one(gateway, ask("gone"))).cached
    assert len(gateway.teacher.log()) == before + 1


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
    wait_until(lambda: gateway.rows()[-1].outcome == "ok", 5)


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
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
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


async def test_rows_of_a_step_become_lessons_in_order(gateway: Gateway):
    params = TeachParams(teacher="default", domain="shell", sampling=Sampling(max_tokens=50), ground=True)
    rows = [Guided(id=f"row-{n}", question=f"task {n}", reference=f"tool-{n} -x", guideline="?") for n in range(12)]
    seen: list[tuple[int, int]] = []
    async with gateway.client(step="lessons") as client:
        lessons = await teach(client, params, rows, lambda done, total: seen.append((done, total)))
    assert [(lesson.id, lesson.answer, lesson.outcome) for lesson in lessons] == [
        (f"row-{n}", f"tool-{n} -x", "ok") for n in range(12)
    ]
    assert seen == [(n, 12) for n in range(1, 13)]


async def test_the_handler_answers_a_step_and_names_it_in_the_ledger(gateway: Gateway, monkeypatch, tmp_path):
    monkeypatch.setenv("METEOR_STRONG_GATEWAY_URL", gateway.url)
    strong_settings.cache_clear()
    params = TeachParams(teacher="default", domain="shell", sampling=Sampling(max_tokens=50))
    rows = [Guided(id="a", question="where am I?", reference="pwd").model_dump()]
    claim = Claim("step-9", "job-9", "p9", "distill/teach/3", StepKind.TEACH, "hash", 1)
    settings = PlatformSettings(data=tmp_path, internal_token=SecretStr(TOKEN))
    context = StepContext(claim, settings, Artifacts(settings.artifacts))
    result = await HANDLERS[StepKind.TEACH](StepRequest.of(StepKind.TEACH, params, rows), context)
    strong_settings.cache_clear()
    assert result.metrics == {"ok": 1, "refused": 0, "empty": 0, "cut_off": 0}
    assert result.rows[0]["answer"] == "pwd"
    row = gateway.row(result.rows[0]["call_id"])
    assert (row.project_id, row.job_id, row.step_id, row.phase, row.example_id) == (
        "p9",
        "job-9",
        "step-9",
        "distill",
        "a",
    )
    assert context.latest is not None
    assert (context.latest.done, context.latest.total) == (1, 1)


async def test_a_refused_key_fails_the_step_at_once(gateway: Gateway):
    gateway.teacher.fault("401")
    params = TeachParams(teacher="default", domain="shell", sampling=Sampling(max_tokens=50))
    rows = [Guided(id=str(n), question=f"refused {n}") for n in range(30)]
    with pytest.raises(UserError) as caught:
        async with gateway.client(step="refused") as client:
            await teach(client, params, rows, lambda *_: None)
    assert (caught.value.code, caught.value.param) == ("teacher_auth_failed", "distillation.teacher")
    assert "METEOR_TEACHER_API_KEY" in caught.value.message


async def test_a_killed_gateway_leaves_no_open_intent(tmp_path):
    """What was sent and never settled is `unknown` after the next start; the ledger still equals the teacher's log."""
    with start_teacher() as teacher:
        teacher.fault("hang")
        with patient_gateway(teacher, tmp_path) as gateway:
            waiting = [asyncio.create_task(one(gateway, ask(n))) for n in range(3)]
            await asyncio.to_thread(wait_until, lambda: len(teacher.log()) == 3, 30)
            gateway.process.kill()
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [getattr(result, "code", result) for result in results] == ["gateway_unreachable"] * 3
        teacher.heal()
        with patient_gateway(teacher, tmp_path) as gateway:
            assert [row.state for row in gateway.rows()] == ["unknown"] * 3
            assert not (await one(gateway, ask(0))).cached
            assert {entry["request_id"] for entry in teacher.log()} == {row.id for row in gateway.rows()}


async def test_every_request_that_arrived_has_a_row_and_every_row_arrived(gateway: Gateway):
    """Over all that this module did before: the ledger is the teacher's own log."""
    arrived = {entry["request_id"] for entry in gateway.teacher.log()}
    sent = {row.id: row.outcome for row in gateway.rows() if row.provider == "default" and not row.cached}
    assert len(arrived) == len(gateway.teacher.log())
    assert arrived <= sent.keys()
    # a cancel may come between the row and the sending
    assert {outcome for call_id, outcome in sent.items() if call_id not in arrived} <= {"cancelled"}
    assert all(row.state == "settled" for row in gateway.rows())
