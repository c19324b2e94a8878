"""Several hands on one row: whoever comes second changes nothing. Threads with connections of their own, and processes."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared.contracts.errors import Conflict
from shared.contracts.jobs import JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind
from shared.jobs.schema import Stores
from shared.jobs.states import StepState
from shared.jobs.step_store import Claim
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import CallOrigin, Cost, open_ledger


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """Run all of them from the same moment on; returns what they returned, or the Conflict that they met."""
    gate = threading.Barrier(len(deeds))

    def run(deed: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return deed()
        except Conflict as error:
            return error

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(run, deeds))


def step_of(stores: Stores, job: Any, number: int = 0) -> str:
    return stores.steps.create(job, StepKey.parse(f"k/{number}"), StepKind.TEACH, f"{number:064x}").id


def claimed(stores: Stores, job: Any, number: int = 0) -> Claim:
    claim = stores.steps.claim(step_of(stores, job, number), "w", 30)
    assert claim is not None
    return claim


def status_of(stores: Stores, job: Any) -> str:
    row = stores.jobs.get(job.id)
    assert row is not None
    return row.status


def test_two_processes_never_claim_the_same_step(database_url: str, stores: Stores, new_job):
    job = new_job(stores)
    ids = [step_of(stores, job, number) for number in range(40)]
    code = (
        "import sys; from shared.jobs.schema import stores_on; steps = stores_on(sys.argv[1]).steps;"
        "print('ready', flush=True); sys.stdin.read(1);"
        "print(*(i for i in sys.argv[2:] if steps.claim(i, 'w', 30)))"
    )
    argv = [sys.executable, "-c", code, database_url, *ids]
    hands = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for hand in hands:
        assert hand.stdout is not None
        assert hand.stdout.readline() == "ready\n"
    outputs = at_once(*(lambda hand=hand: hand.communicate("x", timeout=60)[0] for hand in hands))
    taken = [step_id for output in outputs for step_id in output.split()]
    assert sorted(taken) == sorted(ids)


def test_one_of_many_threads_gets_a_step_or_a_job(stores: Stores, new_job):
    job = new_job(stores)
    for number in range(5):
        step_id = step_of(stores, job, number)
        claims = at_once(*[lambda step_id=step_id: stores.steps.claim(step_id, "w", 30)] * 4)
        assert sum(claim is not None for claim in claims) == 1
    assert sum(row is not None for row in at_once(*[lambda: stores.jobs.claim("o", 30)] * 4)) == 1


def test_a_step_created_twice_at_once_has_one_row(stores: Stores, new_job):
    job = new_job(stores)
    for number in range(5):
        assert len(set(at_once(*[lambda number=number: step_of(stores, job, number)] * 4))) == 1


def test_an_expired_step_is_finished_or_reaped_never_both(stores: Stores, new_job):
    job = new_job(stores)
    for number in range(10):
        claim = claimed(stores, job, number)
        stores.steps.renew(claim, -1, None)
        finished, reaped = at_once(
            lambda claim=claim: stores.steps.finish(claim, "f" * 64, {}), lambda: stores.steps.reap(3)
        )
        row: Any = stores.steps.get(claim.step_id)
        assert row.state == (StepState.SUCCEEDED if finished else StepState.QUEUED)
        if not finished:
            assert len(reaped) == 1


def test_a_job_ends_once_whoever_ends_it(stores: Stores, new_job):
    for _ in range(10):
        new_job(stores)
        row: Any = stores.jobs.claim("o", 30)
        ended, cancelled = at_once(
            lambda row=row: stores.jobs.end(row, JobStatus.SUCCEEDED), lambda row=row: stores.jobs.cancel(row)
        )
        now: Any = stores.jobs.get(row.id)
        if ended:
            assert isinstance(cancelled, Conflict)
            assert now.status == JobStatus.SUCCEEDED
        else:
            assert now.status == JobStatus.CANCELLING


def test_a_job_that_is_paused_as_it_ends_does_one_of_both(stores: Stores, new_job):
    for _ in range(10):
        new_job(stores)
        row: Any = stores.jobs.claim("o", 30)
        ended, paused = at_once(
            lambda row=row: stores.jobs.end(row, JobStatus.SUCCEEDED), lambda row=row: stores.jobs.pause(row)
        )
        assert ended, "a pause that was only asked for does not keep a job from its end"
        assert isinstance(paused, Conflict) or paused.status == JobStatus.PAUSING
        assert status_of(stores, row) == JobStatus.SUCCEEDED


def test_cancel_wins_over_pause_rest_and_resume(stores: Stores, new_job):
    for _ in range(10):
        new_job(stores)
        row: Any = stores.jobs.claim("o", 30)
        rested, _, _ = at_once(
            lambda row=row: stores.jobs.rest(row),
            lambda row=row: stores.jobs.pause(row),
            lambda row=row: stores.jobs.cancel(row),
        )
        # cancelled while it ran: the orchestrator ends it; cancelled after it had come to rest: it has ended
        assert status_of(stores, row) == (JobStatus.CANCELLED if rested else JobStatus.CANCELLING)
        job = new_job(stores)
        stores.jobs.pause(job)
        resumed, cancelled = at_once(lambda job=job: stores.jobs.resume(job), lambda job=job: stores.jobs.cancel(job))
        assert cancelled.status == JobStatus.CANCELLED
        assert isinstance(resumed, Conflict) or resumed.status == JobStatus.QUEUED
        assert status_of(stores, job) == JobStatus.CANCELLED


def test_a_paused_job_is_resumed_once(stores: Stores, new_job):
    for _ in range(10):
        job = new_job(stores)
        stores.jobs.pause(job)
        answers = at_once(*[lambda job=job: stores.jobs.resume(job)] * 3)
        assert sum(isinstance(answer, Conflict) for answer in answers) == 2
        assert [event.message for event in stores.jobs.events(job.id)].count("job resumed and queued") == 1
        stores.jobs.cancel(job)


def test_no_step_is_left_running_and_unknown_to_its_worker_in_a_paused_job(stores: Stores, new_job):
    """A worker that claims or finishes as the job comes to rest: done, or put back, or it sees the pause at its next look."""
    for number in range(10):
        new_job(stores)
        row: Any = stores.jobs.claim("o", 30)
        claim, free = claimed(stores, row, 2 * number), step_of(stores, row, 2 * number + 1)
        rested, finished, late = at_once(
            lambda row=row: stores.jobs.rest(row),
            lambda claim=claim: stores.steps.finish(claim, "f" * 64, {}),
            lambda free=free: stores.steps.claim(free, "w", 30),
        )
        assert rested
        step: Any = stores.steps.get(claim.step_id)
        assert step.state == (StepState.SUCCEEDED if finished else StepState.QUEUED)
        taken: Any = stores.steps.get(free)
        if taken.state == StepState.RUNNING:
            assert stores.steps.job_status(late) == JobStatus.PAUSED
            assert stores.steps.release(late)
        elif late is not None:
            assert not stores.steps.release(late), "it was put back already"


def test_two_jobs_publish_two_versions(stores: Stores, new_job):
    job = new_job(stores)
    refs = [ModelRef(base="tiny", base_hash="0" * 64, adapter=f"{n:064x}") for n in range(6)]
    publish = [
        lambda ref=ref: stores.catalog.publish(DEFAULT_PROJECT, "expert", ref, job.id, "promoted") for ref in refs
    ]
    rows = at_once(*publish)
    assert sorted(row.version for row in rows) == [1, 2, 3, 4, 5, 6]
    at_once(*(lambda row=row: stores.catalog.serve(DEFAULT_PROJECT, row) for row in rows))
    assert sum(served for _, served in stores.catalog.models(DEFAULT_PROJECT)) == 1


def test_two_equal_calls_are_both_settled(database_url: str):
    ledger = open_ledger(database_url)
    calls = [ledger.begin(CallOrigin("p", "j"), "default", "big", "h") for _ in range(4)]
    at_once(*(lambda call=call: ledger.settle(call, "ok", Cost(1, 1, 1.0), keep={"by": call}) for call in calls))
    assert ledger.usage("j").usd_spent == 4.0
    kept = ledger.kept("p", "h")
    assert kept is not None
    assert kept.response["by"] in calls


def test_a_worker_beats_from_two_places(stores: Stores):
    at_once(*[lambda: stores.jobs.heartbeat("w", DEFAULT_PROJECT, "judge", "judge", 1)] * 4)
    assert len(stores.jobs.live_workers(5)) == 1
