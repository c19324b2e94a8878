"""Two transactions of the ledger at once: a request is paid once, and an account is the sum of its calls.

On PostgreSQL the second one begins between two statements of the first one. On SQLite it begins after it.
"""

import time
from collections.abc import Callable

import pytest

from shared.contracts.distillation import Budget
from shared.ledger.accounts import Amount, Limits, RoomHeld
from shared.ledger.batch_store import BatchStore
from shared.ledger.learned_store import LearnedStore
from shared.ledger.store import CallOrigin, Cost, InFlight, Ledger, open_ledger
from tests.fakes.interleaving import held_after
from tests.integration.test_store_races import at_once

ROOM = (100, 1000)  # requests and bytes of a batch
MOST = Amount(0.5, 10)
PAID = Cost(10, 5, 0.25)
LOOKED = "ledger_accounts.held_calls"  # in the query for an account that is to be moved


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    return open_ledger(database_url)


def live(ledger: Ledger, step: str = "live") -> str:
    return ledger.begin(CallOrigin("p", "j", step), "default", "m", "hash", MOST, flight=True)


def batched(ledger: Ledger, step: str = "batched") -> str:
    return BatchStore(ledger).add(CallOrigin("p", "j", step), "default", "m", "hash", MOST, {}, 10, ROOM)


# one payment for equal requests


@pytest.mark.parametrize("first", [live, batched])
@pytest.mark.parametrize("second", [live, batched])
def test_equal_requests_that_begin_at_once_are_one_call(
    ledger: Ledger, first: Callable[[Ledger], str], second: Callable[[Ledger], str]
):
    one, other = held_after(ledger.engine, "INSERT INTO ledger_calls", lambda: first(ledger), lambda: second(ledger))
    assert one.error is None
    assert isinstance(other.error, InFlight), other
    assert ledger.usage("j").usd_reserved == MOST.usd
    assert [batch.requests for batch in BatchStore(ledger).collecting()] == [1] * (first is batched)


@pytest.mark.parametrize("ask", [live, batched])
def test_an_answer_that_comes_after_the_look_for_it_is_not_paid_again(ledger: Ledger, ask: Callable[[Ledger], str]):
    """The first request has looked for an answer and was then held up, while another gateway was asked and answered the same."""

    def answered() -> None:
        ledger.settle(live(ledger), "ok", PAID, keep={"by": "the other"})

    one, other = held_after(ledger.engine, "FROM ledger_answers", lambda: ask(ledger), answered)
    assert len([done for done in (one, other) if isinstance(done.error, InFlight)]) == 1, (one, other)


# an account is the sum of its calls


@pytest.mark.parametrize("after", ["INSERT INTO ledger_calls", LOOKED])
def test_an_account_that_opens_beside_a_call_holds_it(ledger: Ledger, after: str):
    one, other = held_after(
        ledger.engine, after, lambda: live(ledger), lambda: ledger.set_budget("j", Budget(max_calls=1))
    )
    assert (one.error, other.error) == (None, None)
    assert sums(ledger) == (0, 0.0, 1, 0.5)
    with pytest.raises(RoomHeld):
        ledger.begin(CallOrigin("p", "j"), "default", "m", "another", MOST)
    ledger.settle(str(one.value), "ok", PAID)
    assert sums(ledger) == (1, 0.25, 0, 0.0)


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ("FROM ledger_calls", False),
        ("UPDATE ledger_calls", False),
        ("UPDATE ledger_accounts", False),
        ("UPDATE ledger_calls", True),
        ("UPDATE ledger_accounts", True),
    ],
)
def test_an_account_that_opens_as_a_call_ends_holds_nothing(ledger: Ledger, after: str, lost: bool):
    """lost: its gateway is gone. Else the call would hold a part of the budget for ever."""
    call = live(ledger)
    end = ledger.mark_unknown if lost else lambda: ledger.settle(call, "ok", PAID)
    one, other = held_after(ledger.engine, after, end, lambda: ledger.set_budget("j", Budget(max_calls=2)))
    assert (one.error, other.error) == (None, None)
    assert sums(ledger) == (1, 0.5 if lost else 0.25, 0, 0.0)


@pytest.mark.parametrize("after", ["INSERT INTO ledger_calls", LOOKED])
def test_a_limit_that_is_set_beside_a_call_counts_it(ledger: Ledger, after: str):
    """The account of the day is opened by the first call that it limits."""

    def limited() -> str:
        ledger.set_standing_limits("p", Limits(calls=1))
        return ledger.begin(CallOrigin("p"), "default", "m", "another", MOST)

    made = held_after(ledger.engine, after, lambda: live(ledger), limited)
    assert {type(one.error) for one in made} == {type(None), RoomHeld}
    (day,) = ledger.shared_budgets("p", None, time.time())
    assert day.spent.calls == 1


@pytest.mark.parametrize("after", ["INSERT INTO ledger_accounts", "INSERT INTO ledger_calls", LOOKED])
def test_calls_that_open_an_account_at_once_are_both_in_it(ledger: Ledger, after: str):
    ledger.set_standing_limits("p", Limits(calls=2))

    def begin(name: str) -> str:
        return ledger.begin(CallOrigin("p"), "default", "m", name, MOST)

    made = held_after(ledger.engine, after, lambda: begin("1"), lambda: begin("2"))
    assert [one.error for one in made] == [None, None]
    with pytest.raises(RoomHeld):
        begin("3")


def test_lost_calls_of_several_jobs_are_counted_beside_one_that_begins(ledger: Ledger):
    """Both lock the accounts in one order; else PostgreSQL ends one of the two as a deadlock."""
    ledger.set_standing_limits("p", Limits(calls=9))
    for job in ("j", "j-2"):
        ledger.set_budget(job, Budget(max_calls=9))
        ledger.begin(CallOrigin("p", job), "default", "m", job, MOST)
    last = CallOrigin("p", "j-2")
    made = held_after(
        ledger.engine, LOOKED, lambda: ledger.begin(last, "default", "m", "x", MOST), lambda: ledger.mark_unknown(False)
    )
    assert [one.error for one in made] == [None, None]
    account = ledger.account("j-2")
    assert account is not None
    assert account.calls + account.held_calls == 2


# batches


def test_a_request_is_taken_out_of_a_batch_that_is_collected(ledger: Ledger):
    batches = BatchStore(ledger)
    assert batches.take_out("p", "hash") is None, "no batch has it"
    ledger.set_budget("j", Budget(max_calls=9))
    call = batched(ledger)
    batches.add(CallOrigin("p", "j", "s"), "default", "m", "another", MOST, {}, 10, ROOM)
    assert batches.take_out("p", "hash") is None
    (batch,) = batches.collecting()
    assert (batch.requests, batches.open_calls(batch.id).count(call)) == (1, 0)
    assert sums(ledger) == (0, 0.0, 1, 0.5), "it cost nothing"
    assert batches.find("p", "batched", "default", ["hash"]) is None, "its step may ask again"
    ledger.settle(live(ledger), "ok", PAID, keep={})
    batches.take_out("p", "another")
    assert batches.collecting() == [], "a batch without requests is none"


def test_a_request_stays_in_a_batch_that_may_have_been_sent(ledger: Ledger):
    batches = BatchStore(ledger)
    batched(ledger)
    batches.seal(time.time())
    kept = batches.take_out("p", "hash")
    assert kept is not None
    assert kept.state == "sealed"
    with pytest.raises(InFlight):
        live(ledger)
    batches.end(kept.id, "expired", None)
    assert batches.take_out("p", "hash") is None
    live(ledger)


def test_a_batch_is_closed_or_a_request_taken_out_of_it(ledger: Ledger):
    batches = BatchStore(ledger)
    batched(ledger)
    one, other = held_after(
        ledger.engine,
        "UPDATE ledger_batches",
        lambda: batches.seal(time.time()),
        lambda: batches.take_out("p", "hash"),
    )
    assert one.error is None
    assert other.value is not None, other
    (batch,) = batches.due()
    assert batch.requests == len(batches.open_calls(batch.id)) == 1


def test_a_request_is_taken_out_of_a_batch_once(ledger: Ledger):
    batches = BatchStore(ledger)
    batched(ledger)
    batches.add(CallOrigin("p", "j", "s"), "default", "m", "another", MOST, {}, 10, ROOM)
    made = held_after(ledger.engine, "UPDATE ledger_calls", *[lambda: batches.take_out("p", "hash")] * 2)
    assert [one.error for one in made] == [None, None]
    (batch,) = batches.collecting()
    assert batch.requests == 1


def test_a_newer_answer_is_not_paid_again_by_who_has_read_an_outdated_one(ledger: Ledger):
    refused = live(ledger)
    ledger.settle(refused, "filtered", Cost(), keep={"refused": "not today"})
    read = ledger.kept("p", "hash")
    assert read is not None

    def again() -> str:
        return ledger.begin(CallOrigin("p", "j"), "default", "m", "hash", MOST, flight=True, passed_over=[read.call_id])

    newer = again()  # by another gateway
    ledger.settle(newer, "ok", PAID, keep={"n": 1})
    with pytest.raises(InFlight):
        again()
    assert ledger.kept("p", "hash") == (newer, {"n": 1})


def test_an_answer_that_is_being_stored_is_forgotten_with_its_row(ledger: Ledger):
    """Both lock the call before the answer; else PostgreSQL ends one of the two as a deadlock."""
    origin = CallOrigin("p", "j", example_id="row")

    def begin(*passed_over: str) -> str:
        return ledger.begin(origin, "default", "m", "hash", MOST, flight=True, passed_over=passed_over)

    outdated = begin()
    ledger.settle(outdated, "filtered", Cost(), keep={"refused": "not today"})
    call = begin(outdated)
    made = held_after(
        ledger.engine,
        "UPDATE ledger_calls",
        lambda: ledger.settle(call, "ok", PAID, keep={"text": "of a person"}),
        lambda: ledger.forget("p", ["row"]),
    )
    assert [(one.value, one.error) for one in made] == [(None, None), (1, None)]
    assert ledger.kept("p", "hash") is None


def test_who_led_for_a_moment_changes_no_batch_that_went_on(ledger: Ledger):
    batches = BatchStore(ledger)
    batched(ledger)
    batches.seal(time.time())
    (read,) = batches.due()
    assert batches.note(read, state="uploaded", remote_file="file-1")
    assert not batches.note(read, state="uploaded", remote_file="file-2")
    (uploaded,) = batches.due()
    assert batches.ask(uploaded, 60)
    assert batches.due() == [], "nobody looks for it before that try has ended"
    assert batches.note(uploaded, state="submitted", remote_id="batch-1", not_before=0)
    batches.end(read.id, "expired", None)
    assert not batches.note(uploaded, state="uploaded", remote_id=None)
    assert batches.due() == []


def test_two_gateways_that_lead_for_a_moment_make_a_batch_at_the_provider_once(ledger: Ledger):
    batches = BatchStore(ledger)
    batches.add(CallOrigin("p", "j", "s"), "default", "m", "h", Amount(0.5, 10), {}, 10, (100, 1000))
    batches.seal(time.time())
    (batch,) = batches.due()
    assert sorted(at_once(*[lambda: batches.ask(batch, 0)] * 2)) == [False, True]
    (batch,) = batches.due()
    assert batches.ask(batch, 0), "a later try"


def test_of_two_gateways_that_upload_a_batchs_file_one_is_heard(ledger: Ledger):
    """What the other one has uploaded is to be deleted, and what the batch is made of is not, before its end."""
    batches = BatchStore(ledger)
    batched(ledger)
    batches.seal(time.time())
    (batch,) = batches.due()
    assert sorted(at_once(*[lambda: batches.begin_upload(batch)] * 2)) == [False, True]
    heard = at_once(*(lambda file=file: batches.uploaded(batch.id, file) for file in ("file-1", "file-2")))
    assert sorted(heard) == [False, True]
    (uploaded,) = batches.due()
    assert uploaded.remote_file == ("file-1", "file-2")[heard.index(True)]
    assert batches.uploaded(batch.id, str(uploaded.remote_file)), "found again by another gateway"
    (left,) = batches.leftovers()
    assert left.leftover == [("file-1", "file-2")[heard.index(False)]]
    batches.end(batch.id, "lost", None, files=["file-3"])
    batches.cleaned(left)
    (left,) = batches.leftovers()
    assert left.leftover == [uploaded.remote_file, "file-3"], "the batch has ended since"
    batches.cleaned(left)
    assert batches.leftovers() == []


def test_two_gateways_learn_of_a_provider(ledger: Ledger):
    store = LearnedStore(ledger.engine)
    made = held_after(
        ledger.engine,
        "ledger_learned",
        lambda: store.save("p", "s", {"by": 1}),
        lambda: store.save("p", "s", {"by": 2}),
    )
    assert [one.error for one in made] == [None, None]
    assert store.load("p", "s") == {"by": 2}
    store.save("p", "s", None)
    assert store.load("p", "s") is None


def sums(ledger: Ledger) -> tuple[int, float, int, float]:
    account = ledger.account("j")
    assert account is not None
    return account.calls, account.usd, account.held_calls, account.held_usd
