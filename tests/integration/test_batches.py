"""The provider's batch API behind the gateway: half the price, nothing sent twice, whatever dies in between."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Row

from shared.contracts.distillation import Budget
from shared.contracts.errors import BatchPending, BudgetExceeded, UserError
from shared.contracts.jobs import JobStatus
from shared.db.engine import reading, writing
from shared.jobs.schema import open_stores
from shared.jobs.tables import jobs
from shared.ledger.store import Cost
from shared.ledger.tables import batches
from shared.platform.gateway_client import ChatReply, GatewayClient, origin_headers
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, ask, assert_ledger_is_log, running_gateway
from tests.fakes.ports import wait_until
from tests.fakes.start import start_teacher

QUICK = PATIENT | {"METEOR_STRONG_BATCH_WINDOW": "PT1.5S", "METEOR_STRONG_BATCH_POLL": "PT0.2S"}


class Case:
    """What one test asks of the gateway, in a project of its own."""

    def __init__(self, gateway: Gateway, project: str):
        self.gateway, self.teacher, self.ledger = gateway, gateway.teacher, gateway.ledger
        self.project = project
        self.job = f"job-of-{project}"

    async def try_all(
        self, rows: Iterable[int], step: str = "step-1", job: str = "", **options: Any
    ) -> list[ChatReply | BaseException]:
        """Each row asked for once, all at the same time."""
        headers = origin_headers(self.project, job or self.job, f"{step}-{self.project}", "distill")
        async with GatewayClient(self.gateway.url, TOKEN, headers, batch=True) as client:
            asked = [
                client.chat(model="default", messages=ask(row), max_tokens=50, example_id=str(row), **options)
                for row in rows
            ]
            return await asyncio.gather(*asked, return_exceptions=True)

    async def answers(self, rows: Sequence[int], **origin: Any) -> list[ChatReply]:
        """As a step does it: asked again until nothing is pending. Raises what else a call ends with."""
        deadline = time.monotonic() + 40
        while True:
            outcomes = await self.try_all(rows, **origin)
            if other := [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, BatchPending)]:
                raise other[0]
            replies = [one for one in outcomes if isinstance(one, ChatReply)]
            if len(replies) == len(rows):
                return replies
            assert time.monotonic() < deadline, [str(one) for one in outcomes[:3]]
            await asyncio.sleep(0.2)

    def rows(self) -> list[Row]:
        return [row for row in self.gateway.rows() if row.project_id == self.project]

    def batches(self) -> list[Row]:
        with reading(self.ledger.engine) as connection:
            mine = batches.select().where(batches.c.project_id == self.project).order_by(batches.c.created_at)
            return list(connection.execute(mine))

    def states(self) -> list[str]:
        return [row.state for row in self.batches()]

    def remote(self) -> list[dict[str, Any]]:
        """The provider's batches that are this test's."""
        mine = {row.id for row in self.batches()}
        return [batch for batch in self.teacher.batches() if batch["metadata"]["meteor_batch"] in mine]

    def computed(self) -> int:
        """How many requests the provider has computed, in batches and by themselves."""
        mine = {row.id for row in self.rows()}
        return sum(entry["request_id"] in mine for entry in self.teacher.log())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with start_teacher("--api-key", KEY) as teacher, running_gateway(teacher, folder, **QUICK) as gateway:
        yield gateway


@pytest.fixture
def case(gateway: Gateway) -> Iterator[Case]:
    yield Case(gateway, f"p-{uuid.uuid4().hex[:8]}")
    gateway.teacher.heal()


async def test_many_calls_go_as_one_batch_for_half_the_price(case: Case):
    assert {type(one) for one in await case.try_all(range(6))} == {BatchPending}
    replies = await case.answers(range(6))
    assert [len(case.remote()), case.states(), case.computed()] == [1, ["ended"], 6]
    rows = case.rows()
    assert {(row.outcome, row.cached, row.batch_id) for row in rows} == {("ok", False, rows[0].batch_id)}
    assert {reply.call_id for reply in replies} == {row.id for row in rows}
    assert not any(reply.cached for reply in replies)
    for row in rows:  # 1 and 2 USD per million tokens
        assert row.usd == pytest.approx((row.input_tokens + 2 * row.output_tokens) / 2e6)
        assert (row.reserved_usd, row.reserved_tokens) == (0, 0)
    again = await case.answers(range(6), step="step-2", job="another")
    assert [reply.text for reply in again] == [reply.text for reply in replies]
    assert all(reply.cached for reply in again)
    assert [len(case.remote()), case.computed()] == [1, 6]
    wait_until(lambda: case.teacher.files() == [], 60, "the provider's copies to be removed")


async def test_two_steps_of_a_job_share_a_batch_and_two_jobs_share_an_answer(case: Case):
    await case.try_all(range(3), step="step-1")
    await case.try_all(range(3, 6), step="step-2")
    await case.try_all(range(6), step="step-3", job="another")  # all of them are on their way already
    await asyncio.gather(
        case.answers(range(3), step="step-1"),
        case.answers(range(3, 6), step="step-2"),
        case.answers(range(6), step="step-3", job="another"),
    )
    assert [batch["request_counts"]["total"] for batch in case.remote()] == [6]
    assert (case.ledger.usage(case.job).teacher_calls, case.ledger.usage("another").teacher_calls) == (6, 0)


async def test_the_same_request_many_times_at_once_is_in_a_batch_once(case: Case):
    await asyncio.gather(*(case.try_all([1, 2], step=f"step-{n % 2}") for n in range(8)))
    assert len(case.rows()) == 2
    case.teacher.latency(1.0)
    async with GatewayClient(
        case.gateway.url, TOKEN, origin_headers(case.project, case.job, "live", "distill")
    ) as live:
        sent = asyncio.create_task(live.chat(model="default", messages=ask(3), max_tokens=50, example_id="3"))
        await asyncio.sleep(0.3)
        (joined,) = await case.try_all([3])  # it is being answered, so it needs no batch
        assert isinstance(joined, ChatReply)
        assert joined.call_id == (await sent).call_id
    await case.answers([1, 2, 3])
    assert case.computed() == 3


async def test_a_request_that_waits_for_a_batch_is_sent_once_when_it_is_asked_for_by_itself(case: Case):
    """While the batch is collected it is taken out of that; later its answer comes with the batch."""
    headers = origin_headers(case.project, "of-one-in-a-hurry", "live", "distill")
    async with GatewayClient(case.gateway.url, TOKEN, headers) as live:

        async def ask_alone(row: int) -> ChatReply:
            return await live.chat(model="default", messages=ask(row), max_tokens=50, example_id=str(row))

        case.teacher.set(batch_s=600.0)
        await case.try_all([1, 2])
        alone = await ask_alone(1)
        (joined,) = await case.try_all([1])
        assert isinstance(joined, ChatReply)
        assert (joined.call_id, joined.cached, alone.cached) == (alone.call_id, True, False)
        wait_until(lambda: case.states() == ["submitted"], 60, "submitted")
        with pytest.raises(BatchPending, match=f"cancel job {case.job} to have it sent by itself"):
            await ask_alone(2)
        case.teacher.set(batch_s=0.0)
        (answer,) = await case.answers([2])
        assert ((await ask_alone(2)).call_id, case.computed()) == (answer.call_id, 2)
    assert Counter((row.outcome, row.usd > 0) for row in case.rows()) == {
        ("ok", True): 2, ("cancelled", False): 1, ("cached", False): 2,
    }  # fmt: skip


async def test_a_batch_whose_creation_was_not_heard_of_is_found_again(case: Case):
    case.teacher.fault("batch_lost", times=1)
    await case.answers(range(4))
    assert [len(case.remote()), case.computed(), case.batches()[0].asked] == [1, 4, 1]


@pytest.mark.parametrize("moment", ["collecting", "submitted"])
async def test_a_killed_gateway_goes_on_with_its_batches(tmp_path, moment: str):
    with start_teacher("--api-key", KEY) as teacher:
        slow = QUICK | ({"METEOR_STRONG_BATCH_WINDOW": "PT60S"} if moment == "collecting" else {})
        teacher.set(batch_s=1.0)
        with running_gateway(teacher, tmp_path, **slow) as gateway:
            case = Case(gateway, "p")
            await case.try_all(range(5))
            wait_until(lambda: case.states() == [moment], 60, moment)
            gateway.process.kill()
        with running_gateway(teacher, tmp_path, **QUICK) as gateway:
            assert len(await Case(gateway, "p").answers(range(5))) == 5
            assert len(teacher.batches()) == 1
            assert_ledger_is_log(gateway)


async def test_a_call_of_a_batch_that_is_just_being_failed_is_not_sent_by_itself(case: Case):
    """Its calls are settled one by one before the batch itself."""
    await case.try_all(range(2))
    for row in case.rows():
        case.ledger.settle(row.id, "batch_failed", Cost(), error="as told")
    with pytest.raises(UserError, match="as told") as raised:
        await case.answers(range(2))
    assert raised.value.code == "teacher_batch_failed"
    wait_until(lambda: case.states() == ["ended"], 60, "the batch, which nobody failed here, to end")
    assert [row.outcome for row in case.rows()] == ["batch_failed"] * 2


async def test_what_expired_or_failed_in_a_batch_is_sent_by_itself_at_the_full_price(case: Case):
    case.teacher.fault("batch_expired", times=1)
    case.teacher.fault("batch_row", times=1)
    await case.answers(range(8))
    ended = Counter((row.outcome, row.batch_id is not None) for row in case.rows())
    assert ended == {("ok", True): 3, ("http_500", True): 1, ("expired", True): 4, ("ok", False): 5}
    for row in case.rows():
        full = (row.input_tokens + 2 * row.output_tokens) / 1e6
        assert row.usd == pytest.approx(full / 2 if row.batch_id else full)
        assert (row.usd > 0) == (row.outcome == "ok")
    assert case.ledger.usage(case.job).usd_reserved == 0


async def test_what_a_batch_is_refused_for_is_learned_and_its_requests_go_in_another_batch(case: Case):
    case.teacher.fault("batch_field")
    await case.answers(range(5), top_p=0.9)
    ended = Counter((row.outcome, row.batch_id is not None) for row in case.rows())
    assert ended == {("http_400", True): 5, ("ok", True): 5}, "at half the price"
    await case.answers(range(5, 8), top_p=0.9)
    assert [batch["request_counts"]["failed"] for batch in case.remote()] == [5, 0, 0]


@pytest.mark.parametrize(("fault", "says"), [("batch_failed", "as told"), ("batch_unknown", "no batch API")])
async def test_a_batch_that_is_not_taken_fails_with_a_way_out(case: Case, fault: str, says: str):
    case.teacher.fault(fault)
    with pytest.raises(UserError, match=says) as raised:
        await case.answers(range(3))
    assert (raised.value.code, raised.value.param) == ("teacher_batch_failed", "distillation.teacher")
    assert "leave `batch` out" in raised.value.message
    with pytest.raises(UserError, match=says):  # and is not tried again behind the user's back
        await case.answers(range(3))
    assert {(row.outcome, row.usd, row.reserved_usd) for row in case.rows()} == {("batch_failed", 0, 0)}
    case.teacher.heal()
    assert len(await case.answers(range(3), step="of-a-fork")) == 3


async def test_a_full_or_absent_provider_is_waited_for(case: Case):
    case.teacher.fault("batch_full", times=1)
    case.teacher.fault("batch_away", times=2)
    replies = await case.answers(range(3))
    assert [batch["status"] for batch in case.remote()] == ["failed", "completed"]
    assert len(replies) == case.computed() == 3


async def test_a_batch_that_the_provider_has_let_go_of_counts_as_paid_and_is_asked_again(case: Case):
    case.teacher.set(batch_s=600.0)
    await case.try_all(range(3))
    wait_until(lambda: case.states() == ["submitted"], 60, "submitted")
    case.teacher.fault("batch_unknown", times=1)
    await case.answers(range(3))
    ended = Counter((row.outcome, row.usd > 0, row.reserved_usd > 0) for row in case.rows())
    assert ended == {("lost", False, True): 3, ("ok", True, False): 3}


async def test_batches_keep_to_the_budget_at_their_own_price(case: Case):
    """A call reserves 0.00027 USD at the full price, and half of that in a batch."""
    case.ledger.set_budget(case.job, Budget(max_usd=0.0005))
    assert {type(one) for one in await case.try_all(range(8))} == {BatchPending}
    held = [row for row in case.rows() if row.state == "intent"]
    assert len(held) == 3
    assert 0.0004 < sum(row.reserved_usd for row in held) <= 0.0005
    case.ledger.set_budget(case.job, Budget(max_usd=0.0))
    with pytest.raises(BudgetExceeded):
        await case.answers(range(20, 22))


async def test_the_batch_of_a_cancelled_job_is_cancelled_and_what_was_done_is_kept(case: Case, new_job):
    stores = open_stores(str(case.ledger.engine.url))
    case.job = new_job(stores).id
    case.teacher.set(batch_s=600.0)
    await case.try_all(range(6))
    wait_until(lambda: case.states() == ["submitted"], 60, "submitted")
    with writing(stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == case.job).values(status=JobStatus.CANCELLED))
    wait_until(lambda: case.remote()[0]["status"] == "cancelling", 60, "the cancellation")
    case.teacher.set(batch_s=0.0)
    wait_until(lambda: case.states() == ["ended"], 60, "the end")
    assert Counter(row.outcome for row in case.rows()) == {"cancelled": 3, "ok": 3}
    assert all(row.usd == row.reserved_usd == 0 for row in case.rows() if row.outcome != "ok")
    done = [int(row.example_id) for row in case.rows() if row.outcome == "ok"]
    assert all(reply.cached for reply in await case.answers(done, step="other", job="other"))
    assert case.computed() == 3


# the provider's files


def gone(case: Case) -> None:
    wait_until(lambda: case.teacher.files() == [], 20, "the provider's copies to be removed")


async def test_a_file_whose_upload_was_not_heard_of_is_found_again(case: Case):
    """As after a gateway that died before it noted the file, or that led no longer."""
    case.teacher.fault("batch_file_lost", times=1)
    await case.answers(range(3))
    assert case.batches()[0].uploads == 1, "it was not sent twice"
    gone(case)
    assert case.gateway.metric('meteor_teacher_batch_files_total{fate="reused",provider="default"}') == 1


async def test_a_file_that_was_uploaded_and_never_used_is_deleted(case: Case, new_job):
    """Its upload was not heard of, and then its job ended."""
    stores = open_stores(str(case.ledger.engine.url))
    case.job = new_job(stores).id
    case.teacher.fault("batch_file_lost", times=1)
    case.teacher.fault("batch_away", skip=1)
    await case.try_all(range(2))
    wait_until(lambda: [row.uploads for row in case.batches()] == [1], 20, "the upload")
    with writing(stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == case.job).values(status=JobStatus.CANCELLED))
    wait_until(lambda: case.states() == ["ended"], 20, "the end")
    assert len(case.teacher.files()) == 1
    case.teacher.heal()
    gone(case)


async def test_no_file_stays_of_a_batch_that_failed(case: Case):
    case.teacher.fault("batch_failed", times=1)
    with pytest.raises(UserError, match="as told"):
        await case.answers(range(3))
    gone(case)


async def test_a_file_that_is_not_deleted_at_once_is_tried_again(case: Case):
    case.teacher.fault("batch_file_stays", times=1)
    await case.answers(range(3))
    gone(case)
