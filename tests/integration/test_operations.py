"""What an operator watches, and how attempts are counted, on SQLite and on PostgreSQL."""

import time

import pytest
from sqlalchemy import update

from shared.contracts.steps import Progress, Queue, StepKind
from shared.db.engine import writing
from shared.jobs.schema import Stores
from shared.jobs.step_store import Claim
from shared.jobs.tables import DEFAULT_PROJECT, steps, workers
from shared.jobs.tallies import AttemptOutcome, Tally
from tests.fakes.store_moves import HASH_B, OOPS, claimed, running, step_of


def outcomes(stores: Stores) -> dict[str, int]:
    tallies = stores.tallies.all()
    counts = {outcome.value: tallies.n(Tally.STEP, StepKind.TEACH, outcome) for outcome in AttemptOutcome}
    return {name: n for name, n in counts.items() if n}


def again(stores: Stores, claim: Claim) -> Claim:
    with writing(stores.steps.engine) as connection:
        connection.execute(update(steps).values(not_before=0.0))
    taken = stores.steps.claim(claim.step_id, "w", 60)
    assert taken is not None
    return taken


def test_each_end_of_an_attempt_is_counted_once(stores: Stores, job, new_job):
    first = claimed(stores, job)
    assert stores.steps.release(first)
    assert stores.steps.postpone(again(stores, first), 1.0, Progress())
    stores.steps.fail(again(stores, first), OOPS, again=True, max_attempts=9)
    lost = again(stores, first)
    with writing(stores.steps.engine) as connection:
        connection.execute(update(steps).values(lease_expires=1.0))
    stores.steps.reap(max_attempts=9)
    last = again(stores, first)
    assert not stores.steps.finish(lost, HASH_B, {}), "an old attempt counts nothing"
    assert stores.steps.finish(last, HASH_B, {"trained_tokens": 120})
    assert not stores.steps.finish(last, HASH_B, {"trained_tokens": 120})
    assert step_of(stores, new_job(stores), "distill/teach/9").reused_from == first.step_id
    expected = dict.fromkeys(("released", "postponed", "retried", "lost", "succeeded", "reused"), 1)
    assert outcomes(stores) == expected
    assert stores.tallies.all().amount(Tally.TRAINED_TOKENS) == 120


def test_the_age_of_what_could_begin_does_not_count_pauses(stores: Stores, job):
    running(stores, job)
    step_of(stores, job)
    with writing(stores.steps.engine) as connection:
        connection.execute(update(steps).values(created_at=time.time() - 500))
    assert stores.operations.oldest_ready()[Queue.STRONG] == pytest.approx(500, abs=5)
    assert stores.operations.oldest_ready()[Queue.JUDGE] == 0
    with writing(stores.steps.engine) as connection:
        connection.execute(update(steps).values(not_before=time.time() - 20))
    assert stores.operations.oldest_ready()[Queue.STRONG] == pytest.approx(20, abs=5), "since its pause ended"
    with writing(stores.steps.engine) as connection:
        connection.execute(update(steps).values(not_before=time.time() + 60))
    assert stores.operations.oldest_ready()[Queue.STRONG] == 0, "it may not begin yet"


def test_processes_are_alive_lost_or_gone(stores: Stores):
    for name, ago, stopping in (("a", 1, False), ("b", 60, False), ("c", 60, True), ("d", 5000, False)):
        stores.jobs.heartbeat(name, DEFAULT_PROJECT, "judge", Queue.JUDGE, 2, stopping)
        with writing(stores.jobs.engine) as connection:
            connection.execute(update(workers).where(workers.c.id == name).values(seen_at=time.time() - ago))
    counts = stores.operations.processes(silent_s=12, within_s=600)
    assert (counts.alive["judge"], counts.lost["judge"], counts.slots["judge"]) == (1, 1, 2)
