"""The moves of a job and its steps that tests of the stores begin with."""

from typing import Any

from shared.contracts.steps import StepKind
from shared.jobs.schema import Stores
from shared.jobs.step_store import Claim

LEASE_S = 30.0
HASH_A, HASH_B = "a" * 64, "b" * 64


def job_row(stores: Stores, job_id: str) -> Any:
    return stores.jobs.get(job_id)


def step_row(stores: Stores, step_id: str) -> Any:
    return stores.steps.get(step_id)


def step_of(stores: Stores, job, key: str = "distill/teach/0", input_hash: str = HASH_A):
    return stores.steps.create(job, key, StepKind.TEACH, input_hash)


def claimed(stores: Stores, job, key: str = "distill/teach/0", input_hash: str = HASH_A) -> Claim:
    claim = stores.steps.claim(step_of(stores, job, key, input_hash).id, "w1", LEASE_S)
    assert claim is not None
    return claim


def running(stores: Stores, job):
    row = stores.jobs.claim("o1", LEASE_S)
    assert row is not None
    assert row.id == job.id
    return row
