"""The outbox and its deliveries, on SQLite and on PostgreSQL: none is lost, none is sent by two at once."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from shared.contracts.errors import Conflict, ErrorBody, NotFound
from shared.contracts.jobs import JobStatus
from shared.contracts.webhooks import JobWebhook, WebhookEvent
from shared.db.engine import writing
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, deliveries
from shared.jobs.webhook_store import DeliveryOutcome
from tests.fakes.store_moves import running

URL = "https://hooks.example/x"
LEASE_S = 60.0
OK = DeliveryOutcome(200, None, 0.1, delivered=True, gone=False, pause_s=0.0)
AGAIN = DeliveryOutcome(500, None, 0.1, delivered=False, gone=False, pause_s=30.0)
GONE = DeliveryOutcome(410, None, 0.1, delivered=False, gone=True, pause_s=30.0)


def endpoint(stores: Stores, *events: WebhookEvent):
    return stores.webhooks.add(DEFAULT_PROJECT, "hook", URL, events or list(WebhookEvent))


def told(stores: Stores, hook) -> list[dict]:
    """Payloads, the oldest first."""
    return [
        json.loads(row.payload) for row in reversed(stores.webhooks.deliveries(DEFAULT_PROJECT, hook.id, None, 100)[0])
    ]


def one(stores: Stores, hook):
    (row,) = stores.webhooks.deliveries(DEFAULT_PROJECT, hook.id, None, 100)[0]
    return row


def test_every_end_of_a_job_is_told_and_nothing_else(stores: Stores, new_job):
    hook = endpoint(stores)
    cancelled, failed, succeeded = new_job(stores), new_job(stores, metadata={"team": "a"}), new_job(stores)
    stores.jobs.cancel(cancelled)
    row = running(stores, failed)
    stores.jobs.add_event(row, "round 1 is over", type="metrics", data={"round": 1, "completed": True}, once=True)
    stores.jobs.add_event(row, "round 1 is over", type="metrics", data={"round": 1, "completed": True}, once=True)
    stores.jobs.end(row, JobStatus.FAILED, ErrorBody(message="no", type="server_error", code="budget_exceeded"))
    row = running(stores, succeeded)
    stores.jobs.rest(row)
    stores.jobs.resume(row)
    assert stores.jobs.end(running(stores, succeeded), JobStatus.SUCCEEDED, fine_tuned_model="expert@1")
    assert not stores.jobs.end(row, JobStatus.FAILED), "a move that was not made is not told"
    bodies = told(stores, hook)
    assert [body["type"] for body in bodies] == [
        "fine_tuning.job.cancelled",
        "distillation.round.completed",
        "fine_tuning.job.failed",
        "distillation.budget.exceeded",
        "distillation.job.paused",
        "fine_tuning.job.succeeded",
    ]
    assert bodies[1]["data"] == {
        "id": failed.id,
        "status": "running",
        "metadata": {"team": "a"},
        "round": 1,
        "completed": True,
    }
    assert bodies[2]["data"]["error"]["code"] == "budget_exceeded"
    assert bodies[5]["data"] | {"status_reason": None} == {
        "id": succeeded.id, "status": "succeeded", "metadata": {}, "fine_tuned_model": "expert@1", "status_reason": None,
    }  # fmt: skip
    assert len({body["id"] for body in bodies}) == 6


def test_a_budget_that_is_used_up_is_told_before_the_pause(stores: Stores, new_job):
    hook = endpoint(stores)
    row = running(stores, new_job(stores))
    assert stores.jobs.pause_over_budget(row.id, "1 USD is not enough")
    assert stores.jobs.rest(row)
    assert [body["type"] for body in told(stores, hook)] == ["distillation.budget.exceeded", "distillation.job.paused"]


def test_who_is_told(stores: Stores, new_job):
    picky, off = endpoint(stores, WebhookEvent.SUCCEEDED), endpoint(stores)
    stores.webhooks.change(DEFAULT_PROJECT, off.id, {"disabled": True})
    own = JobWebhook(url=URL, event_types=[WebhookEvent.CANCELLED])
    first, second = (new_job(stores, webhook=own) for _ in range(2))
    other = new_job(stores)
    for job in (first, other):
        stores.jobs.cancel(job)
    hooks = {row.job_id: row for row in stores.webhooks.page(DEFAULT_PROJECT, None, 100)[0] if row.job_id}
    assert [body["data"]["id"] for body in told(stores, hooks[first.id])] == [first.id]
    assert told(stores, hooks[second.id]) == told(stores, picky) == told(stores, off) == []
    assert hooks[first.id].seed == hooks[second.id].seed, "one secret per project and address"


def test_what_is_rolled_back_is_not_told(stores: Stores, new_job):
    hook, job = endpoint(stores), new_job(stores)
    stores.jobs.cancel(job)
    with pytest.raises(Conflict):
        stores.jobs.cancel(job)
    assert len(told(stores, hook)) == 1


def test_a_delivery_is_one_claimers_at_a_time(stores: Stores, new_job):
    hooks = [endpoint(stores) for _ in range(4)]
    for _ in range(3):
        stores.jobs.cancel(new_job(stores))
    with ThreadPoolExecutor(8) as pool:
        claimed = [row for rows in pool.map(lambda _: stores.webhooks.claim(100, LEASE_S), range(8)) for row in rows]
    ids = [row.id for row in claimed]
    assert len(ids) == len(set(ids))
    rest = [row for _ in range(3) for row in stores.webhooks.claim(100, LEASE_S)]
    assert len(set(ids) | {row.id for row in rest}) == 12
    assert {row.webhook_id for row in claimed + rest} == {hook.id for hook in hooks}
    assert all((row.url, row.attempts) == (URL, 1) for row in claimed)


def test_the_oldest_first_and_busy_endpoints_wait(stores: Stores, new_job):
    slow, quick = endpoint(stores), endpoint(stores)
    jobs = [new_job(stores) for _ in range(2)]
    for job in jobs:
        stores.jobs.cancel(job)
    first = stores.webhooks.claim(10, LEASE_S)
    assert {(row.webhook_id, row.job_id) for row in first} == {(slow.id, jobs[0].id), (quick.id, jobs[0].id)}
    (next_one,) = stores.webhooks.claim(10, LEASE_S, busy=[slow.id])
    assert (next_one.webhook_id, next_one.job_id) == (quick.id, jobs[1].id)


def test_who_dies_with_a_delivery_in_hand_is_followed_by_another(stores: Stores, new_job):
    hook = endpoint(stores)
    stores.jobs.cancel(new_job(stores))
    (lost,) = stores.webhooks.claim(10, lease_s=0.0)
    (again,) = stores.webhooks.claim(10, LEASE_S)
    assert (again.id, again.attempts) == (lost.id, 2)
    assert stores.webhooks.settle(lost, OK) is None, "the first one is too late"
    assert one(stores, hook).state == "pending"
    assert stores.webhooks.settle(again, OK) == "delivered"
    assert stores.webhooks.claim(10, LEASE_S) == []


def test_attempts_are_logged_and_end_after_a_day(stores: Stores, new_job):
    hook = endpoint(stores)
    stores.jobs.cancel(new_job(stores))
    (row,) = stores.webhooks.claim(10, LEASE_S)
    assert stores.webhooks.settle(row, AGAIN) == "pending"
    kept = one(stores, hook)
    assert (kept.last_status, kept.log[0].status, kept.finished_at) == (500, 500, None)
    assert kept.next_at == pytest.approx(time.time() + 30, abs=10)
    assert stores.webhooks.claim(10, LEASE_S) == [], "not before its time"
    with writing(stores.webhooks.engine) as connection:
        connection.execute(update(deliveries).values(next_at=0.0, expires_at=time.time() + 20))
    (row,) = stores.webhooks.claim(10, LEASE_S)
    assert stores.webhooks.settle(row, AGAIN) == "failed"
    assert len(one(stores, hook).log) == 2
    replayed = stores.webhooks.replay(DEFAULT_PROJECT, hook.id, row.id)
    assert (replayed.id, replayed.state, replayed.finished_at) == (row.id, "pending", None)
    (row,) = stores.webhooks.claim(10, LEASE_S)
    assert row.attempts == 3
    stores.webhooks.replay(DEFAULT_PROJECT, hook.id, row.id)
    assert stores.webhooks.settle(row, OK) is None, "it was asked for once more meanwhile"


def test_an_endpoint_that_is_gone_hears_nothing_more_until_it_is_enabled(stores: Stores, new_job):
    hook = endpoint(stores)
    for _ in range(2):
        stores.jobs.cancel(new_job(stores))
    (row,) = stores.webhooks.claim(10, LEASE_S)
    assert stores.webhooks.settle(row, GONE) == "failed"
    assert stores.webhooks.get(DEFAULT_PROJECT, hook.id).disabled_reason == "it answered 410"
    assert stores.webhooks.claim(10, LEASE_S) == []
    with pytest.raises(Conflict):
        stores.webhooks.replay(DEFAULT_PROJECT, hook.id, row.id)
    stores.jobs.cancel(new_job(stores))
    stores.webhooks.change(DEFAULT_PROJECT, hook.id, {"disabled": False})
    (waited,) = stores.webhooks.claim(10, LEASE_S)
    assert waited.id != row.id
    assert len(told(stores, hook)) == 2, "what happened meanwhile was not for it"


def test_rotating_and_deleting_and_other_projects(stores: Stores, new_job):
    hook = endpoint(stores)
    stores.jobs.cancel(new_job(stores))
    rotated = stores.webhooks.rotate(DEFAULT_PROJECT, hook.id, keep_old=True)
    assert rotated.seed != hook.seed
    assert rotated.old_seed == hook.seed
    assert stores.webhooks.rotate(DEFAULT_PROJECT, hook.id, keep_old=False).old_seed is None
    for asked in (
        lambda: stores.webhooks.get("proj_other", hook.id),
        lambda: stores.webhooks.deliveries("proj_other", hook.id, None, 10),
        lambda: stores.webhooks.rotate("proj_other", hook.id, keep_old=False),
        lambda: stores.webhooks.change("proj_other", hook.id, {"url": "https://x.example"}),
        lambda: stores.webhooks.replay("proj_other", hook.id, one(stores, hook).id),
        lambda: stores.webhooks.remove("proj_other", hook.id),
    ):
        with pytest.raises(NotFound):
            asked()
    assert stores.webhooks.forget(time.time() + 1) == 0, "it is still tried"
    stores.webhooks.remove(DEFAULT_PROJECT, hook.id)
    assert stores.webhooks.claim(10, LEASE_S) == []
    with pytest.raises(NotFound):
        stores.webhooks.get(DEFAULT_PROJECT, hook.id)


def test_old_deliveries_are_forgotten(stores: Stores, new_job):
    hook = endpoint(stores)
    stores.jobs.cancel(new_job(stores))
    with writing(stores.webhooks.engine) as connection:
        connection.execute(update(deliveries).values(expires_at=time.time() - 1))
    assert stores.webhooks.forget(time.time() - 3600) == 0
    assert stores.webhooks.forget(time.time() + 1) == 1
    assert told(stores, hook) == []


def test_there_is_an_end_to_endpoints(stores: Stores):
    for _ in range(50):
        endpoint(stores)
    with pytest.raises(Conflict, match="at most 50"):
        endpoint(stores)
