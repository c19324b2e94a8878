"""Recipes in the store: when they are due, that a run belongs to one process, and what a failure leaves."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from shared.contracts.distillation import Distillation
from shared.contracts.errors import ErrorBody, NotFound
from shared.contracts.jobs import JobRequest
from shared.contracts.notices import NoticeKind
from shared.contracts.recipes import RecipeRequest, RunStatus
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import writing
from shared.jobs import recipe_store
from shared.jobs.recipe_store import DueRun, RecipeState, next_due
from shared.jobs.records import RecipeRecord
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, recipes

OOPS = ErrorBody(message="oops", type="invalid_request_error", code="oops")


def dataset(stores: Stores, rows: int, dataset_id: str | None = None) -> str:
    """The id of a dataset, or of the next version of one."""
    return stores.catalog.add_file(
        DEFAULT_PROJECT, sha256="0" * 64, bytes=1, filename="rows.jsonl", purpose="fine-tune", status="processed", errors=[],
        n_rows=rows, splits={"train": rows}, rows_ref="r", dataset_id=dataset_id,
    ).id  # fmt: skip


def recipe(stores: Stores, file: str, **trigger: Any) -> RecipeRecord:
    body = {"name": "weekly", "job": {}, "source": {"type": "file", "file": file}, "trigger": trigger}
    return stores.recipes.add(DEFAULT_PROJECT, RecipeRequest.model_validate(body), None)


def claim(stores: Stores, lease_s: float = 60) -> DueRun | None:
    """Of all recipes, as if their time had come."""
    with writing(stores.jobs.engine) as connection:
        connection.execute(update(recipes).values(look_at=0.0))
    return stores.recipes.claim("p1", lease_s)


def job_of(stores: Stores, due: DueRun) -> Any:
    assert due.run.file_id is not None
    request = JobRequest(model="tiny", training_file=due.run.file_id, distillation=Distillation(domain="shell"))
    return stores.jobs.create(DEFAULT_PROJECT, request, job_id=due.run.job_id)


def state(stores: Stores, made: RecipeRecord) -> RecipeState:
    return stores.recipes.state(stores.recipes.get(DEFAULT_PROJECT, made.id))


def told(stores: Stores, made: RecipeRecord) -> list[str]:
    rows, _ = stores.notices.page(DEFAULT_PROJECT, NoticeKind.RECIPE, made.id, None, 100)
    return [row.type for row in reversed(rows)]


def test_a_run_begins_with_enough_new_rows_and_after_the_last_job(stores: Stores):
    file = dataset(stores, 60)
    made = recipe(stores, file, rows=50)
    first = claim(stores)
    assert first is not None
    assert (first.run.number, first.run.file_id, first.run.rows) == (1, file, 60)
    assert claim(stores) is None, "it is being made"
    job = job_of(stores, first)
    assert stores.recipes.end(first)
    dataset(stores, 109, file)
    stores.jobs.cancel(job)
    assert claim(stores) is None, "49 new rows"
    newest = dataset(stores, 110, file)
    second = claim(stores)
    assert second is not None
    assert (second.run.number, second.run.file_id) == (2, newest)
    job = job_of(stores, second)
    stores.recipes.end(second)
    dataset(stores, 500, file)
    assert claim(stores) is None, "the last job runs"
    assert state(stores, made).waits_for == job.id
    stores.jobs.cancel(job)
    assert claim(stores) is not None


def test_periods_go_on_from_where_they_began_and_missed_ones_are_left_out(stores: Stores):
    made = recipe(stores, dataset(stores, 60), every="P1D")
    due = stores.recipes.claim("p1", 60)
    assert due is not None
    assert due.recipe.due_at == made.created_at + 86400
    assert stores.recipes.end(due)
    assert claim(stores) is not None, "no job was made, so none is waited for"
    late = made.created_at + 10.5 * 86400
    assert next_due(made, late) == pytest.approx(made.created_at + 11 * 86400)
    assert made.trigger.every == timedelta(days=1)


def test_many_processes_begin_a_run_once(stores: Stores):
    for _ in range(3):
        recipe(stores, dataset(stores, 60), rows=1)
    with ThreadPoolExecutor(4) as pool:
        begun = [due for due in pool.map(lambda number: stores.recipes.claim(f"p{number}", 60), range(12)) if due]
    while due := stores.recipes.claim("last", 60):  # what another had locked was passed over, and is found later
        begun.append(due)
    assert sorted(due.recipe.id for due in begun) == sorted({due.recipe.id for due in begun})
    assert len(begun) == 3


def test_a_lost_run_is_taken_over_and_makes_one_job_with_whoever_wakes_up(stores: Stores):
    made = recipe(stores, dataset(stores, 60), rows=1)
    lost = claim(stores, lease_s=-1)
    assert lost is not None
    again = claim(stores)
    assert again is not None
    assert (again.run.number, again.run.attempt, again.run.job_id) == (1, 2, lost.run.job_id)
    jobs = [job_of(stores, due) for due in (again, lost)]
    assert jobs[0].id == jobs[1].id
    assert len(stores.jobs.events(jobs[0].id)) == 1, "made once, told once"
    assert not stores.recipes.end(lost)
    assert stores.recipes.end(again)
    assert not stores.recipes.end(again)
    assert told(stores, made) == ["created", "made"]


def test_a_failure_is_told_and_does_not_stop_the_next_run(stores: Stores, monkeypatch: pytest.MonkeyPatch):
    hook = stores.webhooks.add(DEFAULT_PROJECT, "hook", "https://hooks.example/x", list(WebhookEvent))
    made = recipe(stores, dataset(stores, 60), rows=1)
    due = claim(stores)
    assert due is not None
    assert stores.recipes.end(due, OOPS)
    last = state(stores, made).last
    assert last is not None
    assert (last.status, last.error) == (RunStatus.FAILED, OOPS)
    (delivery,), _ = stores.webhooks.deliveries(DEFAULT_PROJECT, hook.id, None, 100)
    assert delivery.type == WebhookEvent.RECIPE_FAILED
    now = stores.recipes.get(DEFAULT_PROJECT, made.id)
    assert now.look_at > time.time() + recipe_store.RETRY_S - 60
    assert now.rows_used == 0
    assert stores.recipes.claim("p1", 60) is None
    stores.recipes.set_paused(DEFAULT_PROJECT, made.id, True)
    stores.recipes.set_paused(DEFAULT_PROJECT, made.id, False)
    again = stores.recipes.claim("p1", 60)
    assert again is not None
    assert again.run.number == 2
    assert told(stores, made) == ["created", "failed", "paused", "resumed"]


def test_a_source_that_was_deleted_makes_a_run_that_tells_it(stores: Stores):
    file = dataset(stores, 60)
    recipe(stores, file, rows=1000)
    assert claim(stores) is None
    stores.catalog.delete_file(DEFAULT_PROJECT, file)
    due = claim(stores)
    assert due is not None
    assert due.run.file_id is None


def test_paused_and_deleted_recipes_begin_nothing(stores: Stores):
    made = recipe(stores, dataset(stores, 60), rows=1)
    stores.recipes.set_paused(DEFAULT_PROJECT, made.id, True)
    assert stores.recipes.set_paused(DEFAULT_PROJECT, made.id, True).paused_at is not None
    assert claim(stores) is None
    stores.recipes.set_paused(DEFAULT_PROJECT, made.id, False)
    due = claim(stores)
    assert due is not None
    with pytest.raises(NotFound):
        stores.recipes.delete("proj_other", made.id)
    stores.recipes.delete(DEFAULT_PROJECT, made.id)
    assert not stores.recipes.end(due)
    assert claim(stores) is None
    assert told(stores, made) == []


def test_recipes_that_wait_hold_up_no_other(stores: Stores):
    file = dataset(stores, 60)
    for _ in range(recipe_store.AT_ONCE + 1):
        recipe(stores, file, rows=1000)
    made = recipe(stores, file, rows=1)
    begun = [stores.recipes.claim("p1", 60) for _ in range(2)]
    assert [due.recipe.id for due in begun if due] == [made.id]
