"""Deleted versions in the store: whose weights are still needed, and what happens when somebody serves one in that moment."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update

from shared.contracts.errors import MeteorError, NotFound
from shared.contracts.exports import ExportFormat, ExportRequest
from shared.contracts.steps import Method, ModelRef
from shared.db.engine import writing
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, jobs

BASE = ModelRef(base="tiny", base_hash="b")


def version(stores: Stores, job: Any, digit: str, state: str = "promoted") -> Any:
    return stores.catalog.publish(DEFAULT_PROJECT, "a", BASE.trained(Method.LORA, digit * 64), job.id, state)


def kept(stores: Stores) -> set[str]:
    """The first digit of each content hash that must stay."""
    return {digest[0] for digest in stores.retention.needed(time.time() - 60).trained}


def end(stores: Stores, job: Any, ago: float = 0.0) -> None:
    stores.jobs.cancel(job)
    with writing(stores.jobs.engine) as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(finished_at=time.time() - ago))


def test_weights_go_when_no_job_can_ask_for_them_any_more(stores: Stores, new_job):
    made = new_job(stores)
    first, second, third = (version(stores, made, digit) for digit in "123")
    end(stores, made, ago=3600)
    request = ExportRequest(model="a@2", model_id=second.id, formats=[ExportFormat.ADAPTER])
    exported = stores.jobs.create(DEFAULT_PROJECT, request)
    end(stores, exported)
    bystander = new_job(stores)
    for row in (first, second):
        stores.catalog.delete_version(DEFAULT_PROJECT, row)
    assert kept(stores) == {"1", "2", "3"}, "a job was there that may compare itself with what was served"
    end(stores, bystander)
    assert kept(stores) == {"2", "3"}, "an export of the second is kept still"
    end_long_ago = update(jobs).values(finished_at=time.time() - 3600)
    with writing(stores.jobs.engine) as connection:
        connection.execute(end_long_ago)
    new_job(stores)  # it cannot find them
    assert kept(stores) == {"3"}
    stores.catalog.serve(DEFAULT_PROJECT, third)
    stores.catalog.delete_alias(DEFAULT_PROJECT, "a")
    assert stores.catalog.served(DEFAULT_PROJECT, "a") is None


def test_nothing_goes_back_to_a_deleted_version(stores: Stores, new_job):
    job = new_job(stores)
    first, second, third = (version(stores, job, digit) for digit in "123")
    end(stores, job)
    stores.catalog.serve(DEFAULT_PROJECT, third)
    stores.catalog.delete_version(DEFAULT_PROJECT, second)
    assert stores.catalog.roll_back(DEFAULT_PROJECT, "a").id == first.id
    with pytest.raises(NotFound):
        stores.catalog.serve(DEFAULT_PROJECT, second)
    assert [row.id for row, _ in stores.catalog.models(DEFAULT_PROJECT)] == [third.id, first.id]


def refusal(gate: threading.Barrier, deed: Callable[[], Any]) -> MeteorError | None:
    gate.wait()
    try:
        deed()
    except MeteorError as error:
        return error
    return None


@pytest.mark.parametrize("whole", [False, True])
def test_an_alias_never_serves_a_version_that_is_deleted_meanwhile(stores: Stores, new_job, whole: bool):
    job = new_job(stores)
    made = [version(stores, job, digit) for digit in "0123456789"]
    end(stores, job)
    catalog = stores.catalog
    for served, other in zip(made[:5], made[5:], strict=True):
        if not whole:
            catalog.serve(DEFAULT_PROJECT, served)
        serve = partial(catalog.serve, DEFAULT_PROJECT, other)
        remove = (
            partial(catalog.delete_alias, DEFAULT_PROJECT, "a")
            if whole
            else partial(catalog.delete_version, DEFAULT_PROJECT, other)
        )
        with ThreadPoolExecutor(2) as pool:
            refusals = list(pool.map(partial(refusal, threading.Barrier(2)), [serve, remove]))
        now = catalog.served(DEFAULT_PROJECT, "a")
        assert now is None or now.id in {row.id for row, _ in catalog.models(DEFAULT_PROJECT)}
        assert whole or refusals.count(None) == 1, "one of the two comes first, and the other is told"
