"""The moves of a job and its steps that tests of the stores begin with."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shared.artifacts.store import Artifacts
from shared.contracts.data import Question
from shared.contracts.errors import ErrorBody
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind
from shared.datasets.rows import JobRows, References, StoredRows, columns_of
from shared.jobs.schema import Stores
from shared.jobs.step_store import Claim
from shared.jobs.tables import DEFAULT_PROJECT

LEASE_S = 30.0
HASH_A, HASH_B = "a" * 64, "b" * 64
OOPS = ErrorBody(message="oops", type="server_error", code="oops")


def job_row(stores: Stores, job_id: str) -> Any:
    return stores.jobs.get(job_id)


def step_row(stores: Stores, step_id: str) -> Any:
    return stores.steps.get(step_id)


def step_of(stores: Stores, job, key: str = "distill/teach/0", input_hash: str = HASH_A):
    return stores.steps.create(job, StepKey.parse(key), StepKind.TEACH, input_hash)


def claimed(stores: Stores, job, key: str = "distill/teach/0", input_hash: str = HASH_A) -> Claim:
    claim = stores.steps.claim(step_of(stores, job, key, input_hash).id, "w1", LEASE_S)
    assert claim is not None
    return claim


def running(stores: Stores, job):
    row = stores.jobs.claim("o1", LEASE_S)
    assert row is not None
    assert row.id == job.id
    return row


def job_rows(artifacts: Artifacts, rows: Sequence[Question]) -> JobRows:
    """Rows on the disk with the splits that they name."""
    reference = artifacts.put_rows(row.model_dump(mode="json") for row in rows)
    return JobRows(StoredRows(artifacts, References(reference, columns_of(artifacts, reference))))


def processed_file(stores: Stores, artifacts: Artifacts, rows: Sequence[Question]) -> str:
    """The id of a file whose rows were checked and split, as an upload leaves it; nobody uploaded one."""
    return stores.catalog.add_file(
        DEFAULT_PROJECT,
        sha256="0" * 64,
        bytes=0,
        filename="f",
        purpose="fine-tune",
        status="processed",
        errors=[],
        n_rows=len(rows),
        splits=dict(Counter(row.split.value for row in rows if row.split)),
        rows_ref=artifacts.put_json([row.model_dump(mode="json") for row in rows]),
    ).id
