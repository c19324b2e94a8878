"""What one transaction reads and another changes before it writes: deletions beside what needs them, two that take the same turn.

On PostgreSQL the second one begins between two statements of the first one, and waits or decides anew. On SQLite it begins after it.
"""

import time
from typing import Any

import pytest
from sqlalchemy import func, select

from shared.contracts.canary import Arm, CanaryTerms
from shared.contracts.distillation import Budget
from shared.contracts.errors import Conflict, NotFound
from shared.contracts.evals import CustomSource, EvalRun, RunRequest
from shared.contracts.experiments import EXPERIMENT
from shared.contracts.exports import ExportFormat, ExportRequest
from shared.contracts.feedback import FeedbackRequest
from shared.contracts.imports import OfRecipe
from shared.contracts.jobs import JobRequest
from shared.contracts.recipes import RecipeRequest
from shared.contracts.steps import Method, ModelRef
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import reading
from shared.jobs.canary_store import CountKey, Sum, UnitKey
from shared.jobs.catalog import ChatsGone, Outdated
from shared.jobs.chat_store import ChatFilter
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, canary_counts, canary_units, recipe_chats
from shared.jobs.webhook_store import MOST
from tests.fakes.interleaving import Ended, held_after
from tests.integration.test_store_races import at_once

BASE = ModelRef(base="tiny", base_hash="b")
EVERY = ChatFilter()


def version(stores: Stores, job: Any, digit: str) -> Any:
    ref = BASE.trained(Method.LORA, digit * 64)
    return stores.catalog.publish(DEFAULT_PROJECT, "a", ref, job.id, "promoted")


def chat(name: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{name}", "project_id": DEFAULT_PROJECT, "alias": "shell", "version": 1, "model": "shell",
        "user": None, "safety_identifier": None, "request": {"messages": []}, "answer": {"choices": []}, "metadata": {},
        "bytes": 100, "masked": None, "request_id": "req", "created_at": time.time(),
    }  # fmt: skip


def file(stores: Stores, **more: Any) -> Any:
    values: dict[str, Any] = {
        "sha256": "0" * 64, "bytes": 1, "filename": "f", "purpose": "fine-tune", "status": "processed", "errors": [], "n_rows": 1,
    } | more  # fmt: skip
    return stores.catalog.add_file(DEFAULT_PROJECT, **values)


def ended(*both: Ended) -> None:
    assert [one.error for one in both] == [None, None]


def refused(one: Ended, kind: type[Exception], code: str = "") -> None:
    assert isinstance(one.error, kind), one
    assert getattr(one.error, "code", "") == code or not code


# jobs


def test_a_webhook_that_is_removed_breaks_no_event_of_a_job(stores: Stores, new_job):
    hook, job = (
        stores.webhooks.add(DEFAULT_PROJECT, "h", "https://hooks.example/x", list(WebhookEvent)),
        new_job(stores),
    )
    ended(
        *held_after(
            stores.jobs.engine,
            "FROM webhooks",
            lambda: stores.jobs.cancel(job),
            lambda: stores.webhooks.remove(DEFAULT_PROJECT, hook.id),
        )
    )
    assert stores.webhooks.page(DEFAULT_PROJECT, None, 10) == ([], False)


def test_two_orchestrators_begin_one_job_of_an_experiment(stores: Stores, new_job):
    for _ in range(2):
        new_job(stores, metadata={EXPERIMENT: "e"})
    one, other = held_after(
        stores.jobs.engine, "UPDATE jobs", lambda: stores.jobs.claim("o1", 30), lambda: stores.jobs.claim("o2", 30)
    )
    ended(one, other)
    assert one.value is not None
    assert other.value is None


@pytest.mark.parametrize("job_first", [True, False])
def test_a_file_is_deleted_or_a_job_reads_it(stores: Stores, new_job, job_first: bool):
    request = JobRequest.model_validate(new_job(stores).request)
    validation, training = file(stores), file(stores)
    request = request.model_copy(update={"training_file": training.id, "validation_file": validation.id})

    def create() -> Any:
        return stores.jobs.create(DEFAULT_PROJECT, request)

    def delete() -> None:
        stores.catalog.delete_file(DEFAULT_PROJECT, validation.id)

    if job_first:
        one, other = held_after(stores.jobs.engine, "FROM files", create, delete)
        refused(other, Conflict, "file_in_use")
    else:
        one, other = held_after(stores.jobs.engine, "FROM jobs", delete, create)
        refused(other, NotFound, "file_not_found")
    assert one.error is None


@pytest.mark.parametrize("job_first", [True, False])
def test_a_version_is_deleted_or_a_job_goes_on_from_it(stores: Stores, new_job, job_first: bool):
    made = new_job(stores)
    row = version(stores, made, "1")
    stores.jobs.cancel(made)
    request = JobRequest.model_validate(made.request).model_copy(update={"model": "a@1"})

    def create() -> Any:
        return stores.jobs.create(DEFAULT_PROJECT, request)

    def delete() -> None:
        stores.catalog.delete_version(DEFAULT_PROJECT, row)

    if job_first:
        one, other = held_after(stores.jobs.engine, "FROM models", create, delete)
        refused(other, Conflict, "model_in_use")
    else:
        one, other = held_after(stores.jobs.engine, "FROM jobs", delete, create)
        refused(other, NotFound, "model_not_found")
    assert one.error is None


def test_a_version_that_was_deleted_is_not_exported(stores: Stores, new_job):
    made = new_job(stores)
    row = version(stores, made, "1")
    stores.jobs.cancel(made)
    stores.catalog.delete_version(DEFAULT_PROJECT, row)
    request = ExportRequest(model="a@1", model_id=row.id, formats=[ExportFormat.ADAPTER])
    with pytest.raises(NotFound):
        stores.jobs.create(DEFAULT_PROJECT, request)


def test_an_eval_is_deleted_or_a_run_of_it_begins(stores: Stores):
    source = CustomSource(type="custom", item_schema={"type": "object"})
    record = stores.evals.add(DEFAULT_PROJECT, "e", source, [], None)
    items = {"type": "file_content", "content": [{"item": {}}]}
    run = RunRequest.model_validate({"data_source": {"type": "jsonl", "source": items}})
    request = EvalRun(
        eval_id=record.id,
        name="r",
        data_source=run.data_source,
        criteria=[],
        metadata=None,
        budget=Budget(),
        target="none",
    )
    one, other = held_after(
        stores.jobs.engine,
        "FROM jobs",
        lambda: stores.evals.delete(DEFAULT_PROJECT, record.id),
        lambda: stores.jobs.create(DEFAULT_PROJECT, request),
    )
    assert one.error is None
    refused(other, NotFound, "eval_not_found")


# files and chats


def test_a_version_is_made_of_the_newest_one_alone(stores: Stores):
    first = file(stores)
    one, other = held_after(
        stores.jobs.engine,
        "INSERT INTO files",
        lambda: file(stores, dataset_id=first.id, newest=first.id),
        lambda: file(stores, dataset_id=first.id, newest=first.id),
    )
    assert one.value.version == 2
    refused(other, Outdated)
    assert file(stores, dataset_id=first.id, newest=one.value.id).version == 3


def test_chats_that_are_deleted_are_in_no_file_that_is_added(stores: Stores):
    stores.chats.add([chat("1"), chat("2")])
    there = []

    def delete() -> None:
        stores.chats.delete(DEFAULT_PROJECT, "chatcmpl-1")
        there.extend(stores.catalog.datasets(DEFAULT_PROJECT))

    ids = ["chatcmpl-1", "chatcmpl-2"]
    made = held_after(stores.jobs.engine, "FROM chats", lambda: file(stores, of_chats=ids, rows_ref="r" * 64), delete)
    ended(*made)
    assert [one.id for one in there] == [made[0].value.id], "whoever deletes a chat finds the file that has its row"
    with pytest.raises(ChatsGone):
        file(stores, of_chats=ids)


def test_two_attempts_at_an_import_take_the_chats_of_its_run_once(stores: Stores):
    body = {"name": "r", "job": {}, "source": {"type": "completions"}, "trigger": {"rows": 1}}
    of = OfRecipe(id=stores.recipes.add(DEFAULT_PROJECT, RecipeRequest.model_validate(body), None).id, run=1)
    stores.chats.add([chat("1")])

    def late() -> None:
        stores.chats.add([chat("2")])
        stores.chats.take(DEFAULT_PROJECT, EVERY, of)

    ended(
        *held_after(
            stores.chats.engine,
            "DELETE FROM recipe_chats",
            lambda: stores.chats.take(DEFAULT_PROJECT, EVERY, of),
            late,
        )
    )
    with reading(stores.chats.engine) as connection:
        assert connection.execute(select(recipe_chats.c.completion_id)).scalars().all() == ["chatcmpl-1"]


def test_feedback_that_is_deleted_while_it_is_replaced_is_said_anew(stores: Stores):
    stores.chats.add([chat("1")])
    row = stores.chats.get(DEFAULT_PROJECT, "chatcmpl-1")
    first = stores.feedback.put(row, FeedbackRequest(completion_id=row.id, rating="up"))
    one, other = held_after(
        stores.feedback.engine,
        "INSERT INTO feedback",
        lambda: stores.feedback.put(row, FeedbackRequest(completion_id=row.id, rating="down")),
        lambda: stores.feedback.delete(DEFAULT_PROJECT, first.id),
    )
    ended(one, other)
    assert one.value.rating == "down"


# aliases and canaries


def test_a_canary_begins_beside_the_version_that_the_alias_has_just_moved_to(stores: Stores, new_job):
    job = new_job(stores)
    first, second, _ = (version(stores, job, digit) for digit in "123")
    stores.catalog.serve(DEFAULT_PROJECT, first)
    one, other = held_after(
        stores.jobs.engine,
        "INSERT INTO aliases",
        lambda: stores.catalog.serve(DEFAULT_PROJECT, second),
        lambda: stores.canaries.set(DEFAULT_PROJECT, "a", 3, CanaryTerms(percent=5)),
    )
    ended(one, other)
    assert other.value.served.id == second.id


def test_who_rolls_back_an_alias_that_moves_returns_from_where_it_has_moved(stores: Stores, new_job):
    job = new_job(stores)
    first, second, third = (version(stores, job, digit) for digit in "123")
    stores.catalog.serve(DEFAULT_PROJECT, first)
    one, other = held_after(
        stores.jobs.engine,
        "INSERT INTO aliases",
        lambda: stores.catalog.serve(DEFAULT_PROJECT, third),
        lambda: stores.catalog.roll_back(DEFAULT_PROJECT, "a"),
    )
    ended(one, other)
    assert other.value.id == second.id


def test_of_two_first_versions_one_is_served(stores: Stores, new_job):
    job = new_job(stores)
    rows = [version(stores, job, digit) for digit in "12"]
    first = at_once(*(lambda row=row: stores.catalog.serve_first(DEFAULT_PROJECT, row) for row in rows))
    assert sorted(first) == [False, True]
    served = rows[first.index(True)]
    assert stores.catalog.serve_first(DEFAULT_PROJECT, served), "it is served already"


def test_a_version_that_is_just_deleted_is_not_served_first(stores: Stores, new_job):
    job = new_job(stores)
    first, second = (version(stores, job, digit) for digit in "12")
    stores.catalog.serve(DEFAULT_PROJECT, first)
    stores.jobs.cancel(job)
    one, other = held_after(
        stores.jobs.engine,
        "FROM aliases",
        lambda: stores.catalog.delete_version(DEFAULT_PROJECT, second),
        lambda: stores.catalog.serve_first(DEFAULT_PROJECT, second),
    )
    assert one.error is None
    refused(other, NotFound, "model_not_found")


@pytest.mark.parametrize("again", [False, True])
def test_nothing_is_counted_of_a_canary_that_has_ended(stores: Stores, new_job, again: bool):
    """again: another canary begins in its place."""
    job = new_job(stores)
    stores.catalog.serve(DEFAULT_PROJECT, version(stores, job, "1"))
    version(stores, job, "2")
    terms = CanaryTerms.model_validate({"goal": {"metric": "errors"}, "steps": [50]})
    canary = stores.canaries.set(DEFAULT_PROJECT, "a", 2, terms)
    assert canary.id is not None
    sums = {CountKey(canary.id, 0, Arm.CANARY, 1): Sum(1.0, 0.0)}

    def end() -> None:
        if again:
            stores.canaries.set(DEFAULT_PROJECT, "a", 2, terms)
        else:
            stores.canaries.end(DEFAULT_PROJECT, "a")

    ended(
        *held_after(
            stores.jobs.engine,
            "FROM canaries",
            lambda: stores.canaries.add(sums, {UnitKey(canary.id or "", 0, "u"): sums}),
            end,
        )
    )
    with reading(stores.jobs.engine) as connection:
        for table in (canary_counts, canary_units):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


# limits and keys


def test_two_last_webhooks_are_one(stores: Stores):
    def add() -> Any:
        return stores.webhooks.add(DEFAULT_PROJECT, "h", "https://hooks.example/x", [])

    for _ in range(MOST - 1):
        add()
    one, other = held_after(stores.jobs.engine, "INSERT INTO webhooks", add, add)
    assert one.error is None
    refused(other, Conflict, "too_many_webhooks")


def test_a_key_that_is_dropped_while_it_is_asked_for_is_free(stores: Stores):
    claim: Any = stores.answers.begin(DEFAULT_PROJECT, "k", "d")
    ended(
        *held_after(
            stores.answers.engine,
            "INSERT INTO answers",
            lambda: stores.answers.begin(DEFAULT_PROJECT, "k", "d"),
            lambda: stores.answers.drop(claim),
        )
    )


def test_a_budget_keeps_what_another_change_has_set_since_the_job_was_read(stores: Stores, new_job):
    job = new_job(stores)
    stores.jobs.change(job, Budget(max_usd=3), None)
    request = JobRequest.model_validate(stores.jobs.change(job, Budget(max_calls=7), None).request)
    assert (request.distillation.budget.max_usd, request.distillation.budget.max_calls) == (3, 7)
