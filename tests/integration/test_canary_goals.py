"""Canaries that decide by themselves, in the store: what is counted by whom, and what happens once and never twice."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from services.orchestrator import canaries as looking
from shared.contracts.canary import Arm, CanaryGoal, CanaryTerms, Outcome
from shared.contracts.feedback import FeedbackRequest
from shared.contracts.notices import NoticeKind
from shared.contracts.steps import Method, ModelRef
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import reading, writing
from shared.jobs.canary_store import CountKey, Sum, UnitKey
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, canaries, canary_counts, canary_units

BASE = ModelRef(base="tiny", base_hash="b")
ALIAS = "a"
CHAT = {"model": "a", "request": {}, "answer": {}, "metadata": {}, "bytes": 4, "request_id": "r"}


@pytest.fixture
def versions(stores: Stores, new_job) -> None:
    """a@1 is served, a@2 and a@3 can be tried."""
    job = new_job(stores)
    made = [
        stores.catalog.publish(DEFAULT_PROJECT, ALIAS, BASE.trained(Method.LORA, digit * 64), job.id, "promoted")
        for digit in "123"
    ]
    stores.catalog.serve(DEFAULT_PROJECT, made[0])


pytestmark = pytest.mark.usefixtures("versions")


def begin(stores: Stores, promote: bool = False, steps: tuple[float, ...] = (10, 50), **goal: Any) -> str:
    wanted = {"metric": "errors", "min_requests": 100} | goal
    terms = CanaryTerms(goal=CanaryGoal.model_validate(wanted), steps=list(steps), promote=promote)
    made = stores.canaries.set(DEFAULT_PROJECT, ALIAS, 2, terms)
    assert made.id is not None
    return made.id


def observe(
    stores: Stores, canary_id: str, step: int, served: tuple[float, float], canary: tuple[float, float]
) -> None:
    arms = ((Arm.SERVED, served), (Arm.CANARY, canary))
    stores.canaries.add({CountKey(canary_id, step, arm, 7): Sum(*given) for arm, given in arms})


def look(stores: Stores) -> None:
    """At once, although it was looked at a moment ago."""
    with writing(stores.jobs.engine) as connection:
        connection.execute(update(canaries).values(next_look=0.0))
    looking.look(stores)


def told(stores: Stores) -> list[str]:
    """Types of the notices, the oldest first."""
    rows, _ = stores.notices.page(DEFAULT_PROJECT, NoticeKind.CANARY, ALIAS, None, 100)
    return [row.type for row in reversed(rows)]


def served(stores: Stores) -> int:
    model = stores.catalog.served(DEFAULT_PROJECT, ALIAS)
    assert model is not None
    return model.version


def rows_of_counts(stores: Stores) -> int:
    with reading(stores.jobs.engine) as connection:
        return len(connection.execute(select(canary_counts)).all())


def test_several_processes_add_up_in_few_rows(stores: Stores):
    canary_id = begin(stores)
    key = CountKey(canary_id, 0, Arm.CANARY, 7)

    def add(number: int) -> None:
        stores.canaries.add({key: Sum(2, 0.25), key._replace(arm=Arm.SERVED, minute=number % 2): Sum(1, 0)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    sums = {count.arm: (count.n, count.loss) for count in stores.canaries.counts(canary_id)}
    assert sums == {Arm.CANARY: (40, 5), Arm.SERVED: (20, 0)}
    assert rows_of_counts(stores) == 3


def test_a_user_counts_once_in_a_step_whichever_process_was_asked(stores: Stores):
    canary_id = begin(stores)
    key = CountKey(canary_id, 0, Arm.CANARY, 7)

    def add(number: int) -> None:
        users = [UnitKey(canary_id, 0, f"user-{(number + more) % 5}") for more in range(3)]
        stores.canaries.add({}, {user: {key: Sum(1, 1)} for user in users})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    assert stores.canaries.counts(canary_id) == [(0, Arm.CANARY, 5, 5)]
    stores.canaries.add({}, {UnitKey(canary_id, 1, "user-1"): {key._replace(step=1): Sum(1, 0)}})
    assert {count.step: count.n for count in stores.canaries.counts(canary_id)} == {0: 5, 1: 1}, (
        "again in the next step"
    )
    assert stores.canaries.end(DEFAULT_PROJECT, ALIAS)
    with reading(stores.jobs.engine) as connection:
        assert connection.execute(select(canary_units)).all() == []


def test_a_version_of_a_job_is_tried_once(stores: Stores):
    """A job that is taken up after a crash tries its version again, which may have returned meanwhile."""
    terms = CanaryTerms(percent=5)
    assert [stores.canaries.set_once(DEFAULT_PROJECT, ALIAS, 2, terms) for _ in range(2)] == [True, False]
    assert stores.canaries.end(DEFAULT_PROJECT, ALIAS)
    assert not stores.canaries.set_once(DEFAULT_PROJECT, ALIAS, 2, terms)
    assert stores.canaries.set_once(DEFAULT_PROJECT, ALIAS, 3, terms)
    assert told(stores) == ["started", "ended", "started"]


def test_what_comes_after_the_end_is_counted_nowhere(stores: Stores):
    first = begin(stores)
    observe(stores, first, 0, (1, 0), (1, 0))
    second = begin(stores)
    observe(stores, first, 0, (1, 0), (1, 0))
    assert (rows_of_counts(stores), stores.canaries.counts(second)) == (0, [])
    observe(stores, second, 0, (1, 0), (1, 0))
    assert stores.canaries.end(DEFAULT_PROJECT, ALIAS)
    observe(stores, second, 0, (1, 0), (1, 0))
    assert rows_of_counts(stores) == 0
    assert told(stores) == ["started", "started", "ended"]


def test_harm_returns_the_version_and_tells_it(stores: Stores):
    hook = stores.webhooks.add(DEFAULT_PROJECT, "hook", "https://hooks.example/x", list(WebhookEvent))
    observe(stores, begin(stores, promote=True), 0, (900, 9), (50, 25))
    look(stores)
    assert stores.canaries.get(DEFAULT_PROJECT, ALIAS) is None
    assert served(stores) == 1
    (notice, _), _ = stores.notices.page(DEFAULT_PROJECT, NoticeKind.CANARY, ALIAS, None, 100)
    assert (notice.type, notice.level) == ("returned", "warn")
    assert notice.message == (
        "a@2 returned: errors: its loss 0.5 in 50 answers, that of the served version 0.01 in 900 answers; a@1 answers everybody"
    )
    assert notice.data is not None
    assert notice.data["standing"]["outcome"] == notice.data["outcome"] == "harm"
    (delivery,), _ = stores.webhooks.deliveries(DEFAULT_PROJECT, hook.id, None, 100)
    assert (delivery.type, delivery.job_id) == (WebhookEvent.CANARY_RETURNED, None)
    (entry,), _ = stores.audit.page(DEFAULT_PROJECT, None, 100)
    assert (entry.caller, entry.method, entry.route, entry.object_id) == (
        "canary", "DELETE", "/v1/models/{alias}/canary", ALIAS,
    )  # fmt: skip
    assert rows_of_counts(stores) == 0


def test_steps_follow_one_another_and_the_last_promotes(stores: Stores):
    canary_id = begin(stores, promote=True)
    observe(stores, canary_id, 0, (900, 9), (100, 1))
    look(stores)
    now = stores.canaries.get(DEFAULT_PROJECT, ALIAS)
    assert now is not None
    assert (now.step, now.percent, served(stores)) == (1, 50, 1)
    observe(stores, canary_id, 1, (99, 1), (100, 1))
    look(stores)
    assert served(stores) == 1
    observe(stores, canary_id, 1, (1, 0), (0, 0))
    look(stores)
    assert (served(stores), stores.canaries.get(DEFAULT_PROJECT, ALIAS)) == (2, None)
    assert told(stores) == ["started", "step", "promoted"]
    (entry,), _ = stores.audit.page(DEFAULT_PROJECT, None, 100)
    assert (entry.caller, entry.route, entry.object_id) == ("canary", "/v1/models/{model}/promote", "a@2")


def test_without_promotion_it_goes_on_with_the_last_share_and_is_looked_at_no_more(stores: Stores):
    canary_id = begin(stores, steps=(10, 100))
    observe(stores, canary_id, 0, (900, 9), (100, 1))
    look(stores)
    look(stores)
    now = stores.canaries.get(DEFAULT_PROJECT, ALIAS)
    assert now is not None
    assert (now.outcome, now.percent, now.trial, served(stores)) == (Outcome.NO_HARM, 100, None, 1)
    assert told(stores) == ["started", "passed"]
    observe(stores, canary_id, 1, (900, 9), (500, 500))
    look(stores)
    assert told(stores) == ["started", "passed"]


def test_an_alias_that_moved_meanwhile_stays_where_it_is(stores: Stores):
    canary_id = begin(stores, promote=True, steps=(10,))
    observe(stores, canary_id, 0, (900, 9), (100, 1))
    (canary,) = stores.canaries.due(60)
    stores.catalog.serve(DEFAULT_PROJECT, stores.catalog.resolve(DEFAULT_PROJECT, "a@3"))
    assert canary.rule is not None
    verdict = looking.decide(canary.rule, False, 0, stores.canaries.counts(canary_id), 0.0)
    assert not stores.canaries.conclude(canary, verdict)
    assert served(stores) == 3
    assert told(stores) == ["started", "moved"]


def test_many_orchestrators_decide_once(stores: Stores):
    canary_id = begin(stores, promote=True, steps=(10,))
    observe(stores, canary_id, 0, (900, 9), (100, 1))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: look(stores), range(8)))
    assert (served(stores), told(stores)) == (2, ["started", "promoted"])


def test_one_at_a_time_looks(stores: Stores):
    begin(stores)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: stores.canaries.due(60), range(8)))
    assert sum(map(len, taken)) == 1


def rate(stores: Stores, name: str, version: int, rating: str, at: float) -> None:
    chat = {
        "id": name, "project_id": DEFAULT_PROJECT, "alias": ALIAS, "version": version, "created_at": at,
    } | CHAT  # fmt: skip
    stores.chats.add([chat])
    request = FeedbackRequest.model_validate({"completion_id": name, "rating": rating})
    stores.feedback.put(stores.chats.get(DEFAULT_PROJECT, name), request)


def test_ratings_count_in_the_step_in_which_the_answer_was_given(stores: Stores):
    begin(stores, metric="feedback", min_requests=2)
    with reading(stores.jobs.engine) as connection:
        (begun,) = connection.execute(select(canaries.c.step_times)).scalar_one()
    rate(stores, "before", 2, "down", begun - 5)
    for number, (version, rating) in enumerate([(1, "up"), (1, "down"), (2, "up"), (3, "down")]):
        rate(stores, f"first-{number}", version, rating, begun)
    look(stores)
    canary = stores.canaries.get(DEFAULT_PROJECT, ALIAS)
    assert canary is not None
    standing = canary.standing
    assert standing is not None
    assert (standing.served.model_dump(), standing.canary.model_dump()) == (
        {"requests": 2, "loss": 0.5}, {"requests": 1, "loss": 0},
    )  # fmt: skip
    rate(stores, "first-9", 2, "up", begun)
    look(stores)
    now = stores.canaries.get(DEFAULT_PROJECT, ALIAS)
    assert now is not None
    assert now.step == 1
    for number in range(40):
        rate(stores, f"second-{number}", 1 + number % 2, "down" if number % 2 else "up", time.time() + 1)
    look(stores)
    assert told(stores) == ["started", "step", "returned"]


def test_a_canary_from_before_there_were_goals_is_left_alone(stores: Stores):
    stores.canaries.set(DEFAULT_PROJECT, ALIAS, 2, CanaryTerms(percent=5))
    with writing(stores.jobs.engine) as connection:
        connection.execute(update(canaries).values(id=None))
    look(stores)
    now = stores.canaries.get(DEFAULT_PROJECT, ALIAS)
    assert now is not None
    assert (now.rule, now.trial) == (None, None)
    assert stores.canaries.end(DEFAULT_PROJECT, ALIAS)
