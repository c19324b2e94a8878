"""A step and its job in any order of moves: the rules of the store hold after each."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.contracts.errors import Conflict
from shared.contracts.jobs import JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, StepKind
from shared.db.engine import engine_for
from shared.jobs.schema import Stores, open_stores
from shared.jobs.states import FINAL_JOBS, FINAL_STEPS, RESTING_JOBS, StepState
from shared.jobs.step_store import Claim
from tests.fakes.store_moves import OOPS

RESULT = "f" * 64


class StepLife(RuleBasedStateMachine):
    """Any order of moves by three workers, one of them always late: the rules of the store hold after each."""

    stores: Stores
    new_job: Callable[..., Any]

    @initialize()
    def begin(self) -> None:
        self.job: Any = self.new_job(self.stores)
        self.step_id = self.stores.steps.create(
            self.job, StepKey.parse("k"), StepKind.TEACH, self.job.id.ljust(64, "0")
        ).id
        self.claims: list[Claim] = []
        self.seen_attempt = 0
        self.final: tuple | None = None
        self.job_final: str | None = None
        self.forgotten = False

    def row(self) -> Any:
        return self.stores.steps.get(self.step_id)

    @rule()
    def claim(self) -> None:
        job: Any = self.stores.jobs.get(self.job.id)
        free = self.row().state == StepState.QUEUED and job.status not in RESTING_JOBS
        claim = self.stores.steps.claim(self.step_id, "w", 30)
        if claim is not None:
            assert free
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(pick=st.integers(0, 2), move=st.sampled_from(["renew", "finish", "fail", "give up", "release", "postpone"]))
    def write(self, pick: int, move: str) -> None:
        claim = self.claims[-1 - pick % len(self.claims)]
        row = self.row()
        current = claim.attempt == row.attempt and row.state == StepState.RUNNING
        moves: dict[str, Callable[[], Any]] = {
            "renew": lambda: self.stores.steps.renew(claim, 30, None),
            "finish": lambda: self.stores.steps.finish(claim, RESULT, {}),
            "fail": lambda: self.stores.steps.fail(claim, OOPS, again=True, max_attempts=3),
            "give up": lambda: self.stores.steps.fail(claim, OOPS, again=False, max_attempts=3),
            "release": lambda: self.stores.steps.release(claim),
            "postpone": lambda: self.stores.steps.postpone(claim, 0.0, Progress()),
        }
        assert bool(moves[move]()) == current

    @precondition(lambda self: self.claims)
    @rule()
    def lose(self) -> None:
        """The lease of the newest attempt runs out and the reaper comes."""
        lost = self.stores.steps.renew(self.claims[-1], -1, None)
        reaped = [row.id for row in self.stores.steps.reap(3)]  # those of earlier lives too
        assert (self.step_id in reaped) == lost

    @rule()
    def cancel_steps(self) -> None:
        self.stores.steps.cancel_of_job(self.job.id)

    @rule()
    def collect(self) -> None:
        """The collector comes, with a retention of nothing: what a job that goes on has made is not let go of."""
        before = self.row().result_ref
        self.stores.retention.expire_results(time.time() + 60)
        if before is not None and self.row().result_ref is None:
            assert self.job_final is not None
            self.forgotten = True

    @rule()
    def twin(self) -> None:
        """Another job comes to a step with the same inputs: it takes a result over or does the work, never half of both."""
        other = self.new_job(self.stores)
        row = self.stores.steps.create(other, StepKey.parse("k"), StepKind.TEACH, self.row().input_hash)
        assert (row.state == StepState.SUCCEEDED) == (row.result_ref is not None)
        assert row.result_ref is None or not self.forgotten
        self.stores.jobs.cancel(other)

    @rule()
    def start_job(self) -> None:
        self.stores.jobs.claim("o", 30)

    @rule()
    def cancel_job(self) -> None:
        try:
            self.stores.jobs.cancel(self.job)
        except Conflict:
            assert self.job_final is not None

    @rule()
    def pause_job(self) -> None:
        before: Any = self.stores.jobs.get(self.job.id)
        try:
            assert self.stores.jobs.pause(self.job).status in RESTING_JOBS
        except Conflict:
            assert before.status in FINAL_JOBS or before.status == JobStatus.CANCELLING

    @rule()
    def rest_job(self) -> None:
        row: Any = self.stores.jobs.get(self.job.id)
        assert self.stores.jobs.rest(row) == (row.status in (JobStatus.RUNNING, JobStatus.PAUSING))

    @rule()
    def resume_job(self) -> None:
        before: Any = self.stores.jobs.get(self.job.id)
        try:
            assert self.stores.jobs.resume(self.job).status == JobStatus.QUEUED
            assert before.status == JobStatus.PAUSED
        except Conflict:
            assert before.status != JobStatus.PAUSED

    @rule(status=st.sampled_from([JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED]))
    def end_job(self, status: JobStatus) -> None:
        row: Any = self.stores.jobs.get(self.job.id)
        ended = self.stores.jobs.end(row, status)
        if row.status == JobStatus.CANCELLING:
            assert ended == (status == JobStatus.CANCELLED)
        if row.status == JobStatus.PAUSED:
            assert ended == (status == JobStatus.CANCELLED)

    @invariant()
    def what_is_final_stays(self) -> None:
        if not hasattr(self, "step_id"):
            return
        row, job = self.row(), self.stores.jobs.get(self.job.id)
        assert job is not None
        assert row.result_ref == (RESULT if row.state == StepState.SUCCEEDED and not self.forgotten else None)
        now = (row.state, row.attempt)
        if self.final is not None:
            assert now == self.final
        if row.state in FINAL_STEPS:
            self.final = now
            assert row.lease_owner is None
        assert row.attempt >= self.seen_attempt
        self.seen_attempt = row.attempt
        assert len(row.attempts) <= 3
        assert (row.state == StepState.RUNNING) == (row.lease_expires is not None)
        if self.job_final is not None:
            assert job.status == self.job_final
        if job.status in FINAL_JOBS:
            self.job_final = job.status

    def teardown(self) -> None:
        with self.stores.jobs.engine.begin() as connection:  # the next life's job must be the oldest free one
            connection.exec_driver_sql("UPDATE jobs SET status = 'cancelled'")


def test_any_order_of_moves_keeps_the_rules(tmp_path: Path, new_job, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.jobs.step_store.RETRY_PAUSE_S", 0.0)
    url = f"sqlite:///{tmp_path / 'life.sqlite3'}"
    StepLife.stores, StepLife.new_job = open_stores(url), staticmethod(new_job)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        StepLife,
        settings=settings(max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=checks),
    )
    engine_for(url).dispose()
