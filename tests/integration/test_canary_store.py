"""Canaries in the store: one per alias, gone when the alias moves, and what they try is kept."""

import time

import pytest
from sqlalchemy import update

from shared.contracts.canary import CanaryTerms
from shared.contracts.errors import Conflict, NotFound
from shared.contracts.steps import Method, ModelRef
from shared.db.engine import writing
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, jobs
from tests.fakes.store_moves import HASH_B, claimed

BASE = ModelRef(base="tiny", base_hash="b")


def version(stores: Stores, job, adapter: str, ref: ModelRef = BASE, method: Method = Method.LORA):
    return stores.catalog.publish(DEFAULT_PROJECT, "a", ref.trained(method, adapter * 64), job.id, "promoted")


def test_one_per_alias_and_none_when_the_alias_moves(stores: Stores, new_job):
    job, canaries = new_job(stores), stores.canaries
    first, second, third = (version(stores, job, letter) for letter in "123")
    with pytest.raises(NotFound):
        canaries.set(DEFAULT_PROJECT, "a", 2, CanaryTerms(percent=5))
    stores.catalog.serve(DEFAULT_PROJECT, first)
    for number, percent in ((2, 5.0), (3, 12.5)):
        canaries.set(DEFAULT_PROJECT, "a", number, CanaryTerms(percent=percent, shadow=True))
    canary = canaries.get(DEFAULT_PROJECT, "a")
    assert canary is not None
    assert (canary.served.id, canary.tried.id, canary.percent, canary.shadow) == (first.id, third.id, 12.5, True)
    assert canaries.get("proj_other", "a") is None
    stores.catalog.serve(DEFAULT_PROJECT, first)
    assert canaries.get(DEFAULT_PROJECT, "a") is not None, "it serves what it served"
    stores.catalog.serve(DEFAULT_PROJECT, second)
    assert canaries.get(DEFAULT_PROJECT, "a") is None
    canaries.set(DEFAULT_PROJECT, "a", 3, CanaryTerms(percent=5))
    stores.catalog.roll_back(DEFAULT_PROJECT, "a")
    assert canaries.get(DEFAULT_PROJECT, "a") is None
    assert not canaries.end(DEFAULT_PROJECT, "a")


def test_what_one_engine_cannot_serve_together_is_refused(stores: Stores, new_job):
    job = new_job(stores)
    stores.catalog.serve(DEFAULT_PROJECT, version(stores, job, "1"))
    version(stores, job, "2", ref=ModelRef(base="larger", base_hash="l"))
    version(stores, job, "3", method=Method.FULL)
    for number in (1, 2, 3):
        with pytest.raises(Conflict):
            stores.canaries.set(DEFAULT_PROJECT, "a", number, CanaryTerms(percent=5))


def test_what_made_a_version_that_is_tried_is_kept(stores: Stores, new_job):
    served, tried = new_job(stores), new_job(stores)
    assert stores.steps.finish(claimed(stores, tried), HASH_B, {})
    stores.catalog.serve(DEFAULT_PROJECT, version(stores, served, "1"))
    version(stores, tried, "2")
    for job in (served, tried):
        stores.jobs.cancel(job)
    with writing(stores.jobs.engine) as connection:
        connection.execute(update(jobs).values(finished_at=1.0))
    stores.canaries.set(DEFAULT_PROJECT, "a", 2, CanaryTerms(percent=5))
    assert stores.retention.count_expired(time.time()) == 0
    stores.canaries.end(DEFAULT_PROJECT, "a")
    assert stores.retention.count_expired(time.time()) == 1
