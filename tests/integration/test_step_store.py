"""Every move of a step in the durable state, on SQLite and on PostgreSQL."""

import math
import time

import pytest
from sqlalchemy import update

from shared.contracts.jobs import JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepKind
from shared.jobs.schema import Stores
from shared.jobs.states import StepState
from shared.jobs.step_store import StepMismatch
from shared.jobs.tables import steps
from tests.fakes.store_moves import HASH_A, HASH_B, LEASE_S, OOPS, claimed, running, step_of, step_row


def test_a_key_has_one_row_and_one_input(stores: Stores, job):
    row = step_of(stores, job)
    assert (row.state, row.queue, row.attempt) == ("queued", "strong", 0)
    assert step_of(stores, job).id == row.id
    with pytest.raises(StepMismatch, match="other inputs"):
        step_of(stores, job, input_hash=HASH_B)
    assert [step.id for step in stores.steps.of_job(job.id)] == [row.id]
    assert set(stores.steps.states([row.id, "step-none"])) == {row.id}


def test_a_finished_result_is_reused_inside_the_project(stores: Stores, job, new_job):
    claim = claimed(stores, job)
    assert stores.steps.finish(claim, HASH_B, {"rows": 4})
    twin = step_of(stores, new_job(stores), "distill/teach/9")
    assert (twin.state, twin.result_ref, twin.metrics) == ("succeeded", HASH_B, {"rows": 4})
    assert twin.reused_from == claim.step_id
    assert step_of(stores, new_job(stores), input_hash=HASH_B).state == "queued"


def test_a_finished_result_that_is_gone_is_worked_out_again(stores: Stores, job, new_job):
    claim = claimed(stores, job)
    assert stores.steps.finish(claim, "a" * 64, {})
    again = stores.steps.create(
        new_job(stores), StepKey.parse("distill/teach/0"), StepKind.TEACH, HASH_A, lambda row: False
    )
    assert (again.state, again.reused_from) == (StepState.QUEUED, None)


def test_a_second_delivery_finds_nothing_to_do(stores: Stores, job):
    claim = claimed(stores, job)
    assert (claim.attempt, claim.kind) == (1, StepKind.TEACH)
    assert stores.steps.claim(claim.step_id, "w2", LEASE_S) is None
    assert stores.steps.finish(claim, HASH_B, {})
    assert stores.steps.claim(claim.step_id, "w2", LEASE_S) is None
    assert stores.steps.claim("step-none", "w2", LEASE_S) is None


def test_renewal_keeps_the_lease_and_notes_progress(stores: Stores, job):
    claim = claimed(stores, job)
    progress = Progress(done=1, total=4, metrics={"loss": math.inf}, eta_seconds=math.inf)
    assert stores.steps.renew(claim, 99, progress)
    row = step_row(stores, claim.step_id)
    assert row.lease_expires > time.time() + 90
    assert row.progress == Progress(done=1, total=4, metrics={"loss": None}, eta_seconds=None)


def test_failures_are_tried_again_after_a_pause_then_final(stores: Stores, job):
    first = claimed(stores, job)
    assert stores.steps.fail(first, OOPS, again=True, max_attempts=2) == StepState.QUEUED
    row = step_row(stores, first.step_id)
    assert row.not_before > time.time()
    assert stores.steps.claim(first.step_id, "w2", LEASE_S) is None
    assert stores.steps.unsent(0) == []
    _forget_pause(stores, first.step_id)
    second = stores.steps.claim(first.step_id, "w2", LEASE_S)
    assert second is not None
    assert not stores.steps.finish(first, HASH_B, {})
    assert not stores.steps.renew(first, LEASE_S, None)
    assert stores.steps.fail(first, OOPS, again=False, max_attempts=2) is None
    assert stores.steps.fail(second, OOPS, again=True, max_attempts=2) == StepState.FAILED
    row = step_row(stores, first.step_id)
    assert [entry.worker for entry in row.attempts] == ["w1", "w2"]
    assert row.error.code == "oops"


def test_a_final_failure_is_not_tried_again(stores: Stores, job):
    assert stores.steps.fail(claimed(stores, job), OOPS, again=False, max_attempts=9) == StepState.FAILED


def test_a_released_step_is_free_at_once_and_costs_no_attempt(stores: Stores, job):
    for worker in ("w1", "w2", "w3"):
        claim = stores.steps.claim(step_of(stores, job).id, worker, LEASE_S)
        assert claim is not None
        assert stores.steps.release(claim)
        assert not stores.steps.finish(claim, HASH_B, {})
    last = stores.steps.claim(claim.step_id, "w4", LEASE_S)
    assert last is not None
    assert stores.steps.fail(last, OOPS, again=True, max_attempts=2) == StepState.QUEUED


def test_expired_leases_are_reaped_up_to_the_maximum(stores: Stores, job):
    claim = claimed(stores, job)
    assert stores.steps.reap(2) == []
    for state in (StepState.QUEUED, StepState.FAILED):
        assert stores.steps.renew(claim, -1, None)
        (lost,) = stores.steps.reap(2)
        assert lost.attempt == claim.attempt
        row = step_row(stores, claim.step_id)
        assert (row.state, row.error.code, row.sent_at) == (state, "worker_lost", None)
        assert not stores.steps.finish(claim, HASH_B, {})
        claim = stores.steps.claim(claim.step_id, "w2", LEASE_S) or claim
    assert len(row.attempts) == 2


def test_cancelling_the_steps_of_a_job(stores: Stores, job):
    held, waiting, done = (claimed(stores, job, f"k/{n}", h * 64) for n, h in enumerate("cde"))
    stores.steps.finish(done, HASH_B, {})
    stores.steps.release(waiting)
    assert stores.steps.cancel_of_job(job.id) == 2
    assert not stores.steps.finish(held, HASH_B, {})
    assert stores.steps.claim(waiting.step_id, "w2", LEASE_S) is None
    assert step_row(stores, done.step_id).state == StepState.SUCCEEDED
    assert stores.overview.count_steps() == {("strong", "cancelled"): 2, ("strong", "succeeded"): 1}


def test_no_step_of_a_stopping_job_begins_and_running_ones_are_told(stores: Stores, job):
    claim, waiting = claimed(stores, job), step_of(stores, job, "k/1", HASH_B)
    row = running(stores, job)
    assert stores.steps.job_status(claim) == JobStatus.RUNNING
    stores.jobs.cancel(row)
    assert stores.steps.job_status(claim) == JobStatus.CANCELLING
    assert stores.steps.claim(waiting.id, "w1", LEASE_S) is None


def test_unsent_names_what_has_no_message(stores: Stores, job):
    step = step_of(stores, job)
    stores.steps.note_sent(step.id, sent=False)
    _age(stores, step.id, 2)
    assert stores.steps.unsent(30) == []  # its job does not run
    running(stores, job)
    assert stores.steps.unsent(30) == [(step.id, Queue.STRONG)]
    stores.steps.note_sent(step.id)
    assert stores.steps.unsent(30) == []
    assert stores.steps.unsent(-1) == [(step.id, Queue.STRONG)]


def _forget_pause(stores: Stores, step_id: str) -> None:
    _set(stores, step_id, not_before=0.0)


def _age(stores: Stores, step_id: str, seconds: float) -> None:
    _set(stores, step_id, created_at=time.time() - seconds)


def _set(stores: Stores, step_id: str, **values) -> None:
    with stores.steps.engine.begin() as connection:
        connection.execute(update(steps).where(steps.c.id == step_id).values(**values))
