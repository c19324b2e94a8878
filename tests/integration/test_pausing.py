"""Pausing and resuming, on SQLite and on PostgreSQL."""

import pytest

from shared.contracts.errors import Conflict
from shared.contracts.jobs import JobStatus
from shared.jobs.schema import Stores
from shared.jobs.states import StepState
from tests.fakes.store_moves import HASH_B, LEASE_S, claimed, job_row, running, step_of, step_row


def test_a_waiting_job_pauses_at_once_and_is_not_claimed_until_it_is_resumed(stores: Stores, job):
    assert stores.jobs.pause(job).status == JobStatus.PAUSED
    assert stores.jobs.pause(job).status == JobStatus.PAUSED  # again: as it is
    assert stores.jobs.claim("o1", LEASE_S) is None
    resumed = stores.jobs.resume(job)
    assert (resumed.status, resumed.status_reason) == (JobStatus.QUEUED, None)
    assert running(stores, job).status == JobStatus.RUNNING
    with pytest.raises(Conflict, match="only a paused job") as error:
        stores.jobs.resume(job)
    assert error.value.code == "job_running"


def test_a_running_job_pauses_when_its_steps_are_given_back(stores: Stores, job):
    row = running(stores, job)
    held, frozen, waiting = (claimed(stores, job, f"k/{n}", h * 64) for n, h in enumerate("cde"))
    stores.steps.release(waiting)
    assert stores.jobs.pause(row).status == JobStatus.PAUSING
    assert stores.jobs.look([row], LEASE_S) == {(row.id, row.attempt): JobStatus.PAUSING}
    assert stores.steps.job_status(held) == JobStatus.PAUSING
    assert stores.steps.claim(waiting.step_id, "w2", LEASE_S) is None
    with pytest.raises(Conflict) as error:
        stores.jobs.resume(row)
    assert error.value.code == "job_pausing"
    assert stores.steps.count_running(job.id) == 2
    assert stores.steps.release(held)
    assert stores.jobs.rest(row)
    assert stores.steps.count_running(job.id) == 0
    assert not stores.steps.finish(frozen, HASH_B, {}), "a worker that was too slow changes nothing"
    for claim in (held, frozen, waiting):
        step = step_row(stores, claim.step_id)
        assert (step.state, step.lease_owner, step.sent_at, step.attempts) == ("queued", None, None, [])
    assert stores.steps.claim(held.step_id, "w2", LEASE_S) is None
    assert stores.jobs.claim("o2", LEASE_S) is None
    assert stores.jobs.look([row], LEASE_S) == {}
    assert not stores.jobs.end(row, JobStatus.SUCCEEDED)
    stores.jobs.note(row, phase="late", status_reason="the engine loads tiny")  # progress that was on its way
    paused = job_row(stores, job.id)
    assert (paused.phase, paused.lease_expires, paused.finished_at) == (None, None, None)
    assert "resume" in paused.status_reason
    stores.jobs.resume(paused)
    assert running(stores, job).attempt == 2
    again = stores.steps.claim(frozen.step_id, "w2", LEASE_S)
    assert again is not None
    assert again.attempt == frozen.attempt + 1


def test_a_job_pauses_once_after_its_stage(stores: Stores, job):
    row = running(stores, job)
    assert stores.jobs.rest(row, "waits after pilot", after="pilot")
    paused = job_row(stores, job.id)
    assert (paused.status, paused.status_reason, paused.paused_after) == ("paused", "waits after pilot", "pilot")
    assert stores.jobs.events(job.id)[-1].message == "job paused: waits after pilot"
    assert not stores.jobs.rest(row), "it is not held any more"
    stores.jobs.resume(paused)
    assert running(stores, job).paused_after == "pilot"


@pytest.mark.parametrize("when", ["queued", "pausing", "paused", "resumed"])
def test_a_job_is_cancelled_wherever_it_rests(stores: Stores, job, when: str):
    step = step_of(stores, job)
    if when == "pausing":
        row = running(stores, job)
        stores.jobs.pause(row)
        assert stores.jobs.cancel(row).status == JobStatus.CANCELLING
        assert not stores.jobs.rest(row)
        assert stores.jobs.end(row, JobStatus.CANCELLED)
    else:
        if when in ("paused", "resumed"):
            stores.jobs.pause(job)
        if when == "resumed":
            stores.jobs.resume(job)
        assert stores.jobs.cancel(job).status == JobStatus.CANCELLED
        assert step_row(stores, step.id).state == StepState.CANCELLED
    for move in (stores.jobs.pause, stores.jobs.resume, stores.jobs.cancel):
        with pytest.raises(Conflict) as error:
            move(job)
        assert error.value.code == "job_finished"


def test_what_is_done_while_a_job_pauses_counts(stores: Stores, job):
    row = running(stores, job)
    claim = claimed(stores, job)
    stores.jobs.pause(row)
    assert stores.steps.finish(claim, HASH_B, {})
    assert stores.jobs.end(row, JobStatus.SUCCEEDED), "there was nothing left to pause"


def test_a_paused_variant_does_not_hold_its_siblings_up(stores: Stores, new_job):
    first, second = (new_job(stores, metadata={"experiment": "exp-1"}) for _ in range(2))
    row = running(stores, first)
    assert stores.jobs.claim("o2", LEASE_S) is None
    stores.jobs.rest(row)
    assert running(stores, second).status == JobStatus.RUNNING
    stores.jobs.resume(first)
    assert stores.jobs.claim("o2", LEASE_S) is None, "its sibling runs now"


def test_a_former_holder_cannot_put_the_job_to_rest(stores: Stores, job):
    old = running(stores, job)
    stores.jobs.release(old)
    running(stores, job)
    assert not stores.jobs.rest(old)
    assert job_row(stores, job.id).status == JobStatus.RUNNING
