"""The gateway as a process before a fake teacher: one row per call, kept answers, callers that share, leave or cancel."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from services.strong_model.settings import strong_settings
from services.strong_model.worker.tasks import HANDLERS
from services.strong_model.worker.teach import teach
from shared.artifacts.store import Artifacts
from shared.contracts.errors import UserError
from shared.contracts.rows import TeacherInput
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import Sampling, StepKind, TeachParams
from shared.jobs.step_store import Claim
from shared.platform.gateway_client import GatewayClient, origin_headers
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, ask, assert_ledger_is_log, one, running_gateway
from tests.fakes.ports import wait_until
from tests.fakes.start import start_teacher


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with start_teacher("--api-key", KEY) as teacher, running_gateway(teacher, folder) as gateway:
        yield gateway


@pytest.fixture
def gateway(started: Gateway) -> Iterator[Gateway]:
    yield started
    started.teacher.heal()


@pytest.fixture
def patient(tmp_path) -> Iterator[Gateway]:
    """A gateway of its own whose calls do not time out during a test."""
    with start_teacher() as teacher, running_gateway(teacher, tmp_path, **PATIENT) as gateway:
        yield gateway


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
    await asyncio.to_thread(wait_until, lambda: patient.joined() == 1, 30)
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
    wait_until(lambda: gateway.rows()[-1].outcome == "ok", 60)
    assert gateway.teacher.log()[-1]["outcome"] == "answered"
    gateway.teacher.latency(0)
    assert (await one(gateway, ask("gone"))).cached
    assert len(gateway.teacher.log()) == before + 1


async def test_calls_of_a_step_that_is_given_back_are_finished_and_kept(patient: Gateway):
    """What was sent is paid once; the next attempt of the step finds it."""
    origin = origin_headers("p", "job-1", "step-back", "distill")
    params = TeachParams(teacher="default", domain="shell", sampling=Sampling(max_tokens=50))
    async with patient.client() as client:  # the first request of its kind goes alone
        await teach(client, params, [TeacherInput(id="first", question="the first")], lambda *_: None)
    patient.teacher.latency(1.0)
    rows = [TeacherInput(id=str(n), question=f"back {n}") for n in range(12)]  # eight are sent at once, four wait
    async with asyncio.TaskGroup() as group:

        async def attempt() -> None:
            async with GatewayClient(patient.url, TOKEN, origin, wanted=lambda: True) as client:
                await teach(client, params, rows, lambda *_: None)

        running = group.create_task(attempt())
        await asyncio.to_thread(wait_until, lambda: len(patient.teacher.log()) == 9, 10)
        running.cancel()
    await asyncio.to_thread(wait_until, lambda: {row.outcome for row in patient.rows()} == {"ok"}, 5)
    assert len(patient.teacher.log()) == 9, "what was not sent yet was sent for nobody"
    patient.teacher.latency(0)
    async with patient.client(step="step-back") as client:
        responses, _ = await teach(client, params, rows, lambda *_: None)
    assert len(responses) == 12
    assert len(patient.teacher.log()) == 13
    assert_ledger_is_log(patient)


async def test_rows_of_a_step_become_responses_in_order(gateway: Gateway):
    params = TeachParams(teacher="default", domain="shell", sampling=Sampling(max_tokens=50), ground=True)
    rows = [
        TeacherInput(id=f"row-{n}", question=f"task {n}", reference=f"tool-{n} -x", guideline="?") for n in range(12)
    ]
    seen: list[tuple[int, int]] = []
    async with gateway.client(step="responses") as client:
        responses, metrics = await teach(client, params, rows, lambda done, total: seen.append((done, total)))
    assert [(response.id, response.answer, response.outcome) for response in responses] == [
        (f"row-{n}", f"tool-{n} -x", "ok") for n in range(12)
    ]
    assert seen == [(n, 12) for n in range(1, 13)]
    paid = [gateway.row(response.call_id) for response in responses]
    assert metrics["input_tokens"] == sum(row.input_tokens for row in paid) > 0
    assert metrics["output_tokens"] == sum(row.output_tokens for row in paid) > 0


async def test_each_sample_is_a_call_of_its_own_that_is_paid_once(gateway: Gateway):
    sampling = Sampling(max_tokens=50, temperature=0.7, seed=5)
    params = TeachParams(teacher="default", domain="shell", sampling=sampling, samples=3)
    rows = [TeacherInput(id=f"several-{n}", question=f"several {n}", reference=f"tool-{n}") for n in range(2)]
    before = len(gateway.rows())
    async with gateway.client(step="several") as client:
        responses, metrics = await teach(client, params, rows, lambda *_: None)
    paid = gateway.rows()[before:]
    assert [len(response.samples) for response in responses] == [3, 3]
    assert {sample.call_id for response in responses for sample in response.samples} == {row.id for row in paid}
    assert len({row.request_hash for row in paid}) == len(paid) == 6
    assert metrics["output_tokens"] == sum(row.output_tokens for row in paid)
    async with gateway.client(step="again") as client:
        again, _ = await teach(client, params, rows, lambda *_: None)
    assert [one.answer for one in again] == [one.answer for one in responses]
    assert [row.cached for row in gateway.rows()[before + 6 :]] == [True] * 6
    assert_ledger_is_log(gateway)


async def test_the_handler_answers_a_step_and_names_it_in_the_ledger(gateway: Gateway, monkeypatch, tmp_path):
    monkeypatch.setenv("METEOR_STRONG_GATEWAY_URL", gateway.url)
    strong_settings.cache_clear()
    params = TeachParams(teacher="default", domain="shell", sampling=Sampling(max_tokens=50))
    rows = [TeacherInput(id="a", question="where am I?", reference="pwd").model_dump()]
    claim = Claim("step-9", "job-9", "p9", "distill/teach/3", StepKind.TEACH, "hash", 1)
    settings = PlatformSettings(data=tmp_path, internal_token=SecretStr(TOKEN))
    context = StepContext(claim, settings, Artifacts(settings.artifacts))
    result = await HANDLERS[StepKind.TEACH](step_request(StepKind.TEACH, params, rows), context)
    strong_settings.cache_clear()
    assert {"ok": 1, "refused": 0, "empty": 0, "cut_off": 0}.items() <= result.metrics.items()
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
    rows = [TeacherInput(id=str(n), question=f"refused {n}") for n in range(30)]
    with pytest.raises(UserError) as caught:
        async with gateway.client(step="refused") as client:
            await teach(client, params, rows, lambda *_: None)
    assert (caught.value.code, caught.value.param) == ("teacher_auth_failed", "distillation.teacher")
    assert "METEOR_TEACHER_API_KEY" in caught.value.message


async def test_a_killed_gateway_leaves_no_open_intent(tmp_path):
    """What was sent and never settled is `unknown` once its gateway's lease is over; the ledger still equals the teacher's log."""
    with start_teacher() as teacher:
        teacher.fault("hang")
        with running_gateway(teacher, tmp_path, **PATIENT) as gateway:
            waiting = [asyncio.create_task(one(gateway, ask(n))) for n in range(3)]
            await asyncio.to_thread(wait_until, lambda: len(teacher.log()) == 3, 30)
            gateway.process.kill()
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [getattr(result, "code", result) for result in results] == ["gateway_unreachable"] * 3
        teacher.heal()
        with running_gateway(teacher, tmp_path, **PATIENT) as gateway:
            await asyncio.to_thread(wait_until, lambda: [r.state for r in gateway.rows()] == ["unknown"] * 3, 60)
            assert not (await one(gateway, ask(0))).cached
            assert {entry["request_id"] for entry in teacher.log()} == {row.id for row in gateway.rows()}


async def test_the_ledger_is_what_the_teacher_saw(started: Gateway):
    """Over all that this module did before."""
    assert_ledger_is_log(started)


async def test_an_answer_that_comes_while_the_database_is_away_is_kept(tmp_path, postgres_url: str):
    """PostgreSQL lets nobody in for two seconds, during which the teacher answers."""
    with (
        start_teacher() as teacher,
        running_gateway(teacher, tmp_path, DATABASE_URL=postgres_url, **PATIENT) as gateway,
    ):
        teacher.latency(0.5)
        with psycopg.connect(postgres_url, dbname="template1", autocommit=True) as connection:
            call = asyncio.create_task(one(gateway, ask("away")))
            await asyncio.to_thread(wait_until, lambda: len(teacher.log()) == 1, 10)
            connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")
            try:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    " AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(2)
                assert not call.done()
            finally:
                connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true")
        assert not (await call).cached
        assert [row.outcome for row in gateway.rows()] == ["ok"]
        assert (await one(gateway, ask("away"))).cached
        assert len(teacher.log()) == 1
