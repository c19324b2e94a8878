"""The ledger and the artifacts: what was paid for is kept, what was kept is what was written."""

import pytest

from shared.artifacts.store import Artifacts
from shared.contracts.jobs import Usage
from shared.ledger.accounts import Amount
from shared.ledger.batch_store import BatchStore
from shared.ledger.store import CallOrigin, Cost, InFlight, Ledger, open_ledger


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    return open_ledger(database_url)


def test_a_paid_answer_is_kept_and_counted(ledger: Ledger):
    origin = CallOrigin("p1", "j1", "s1", "distill", "row-1")
    call = ledger.begin(origin, "default", "big", "h1")
    assert ledger.kept("p1", "h1") is None
    ledger.settle(call, "ok", Cost(10, 5, 0.25), latency_ms=3.0, keep={"answer": "a\u0000"})
    assert ledger.kept("p1", "h1") == (call, {"answer": "a\u0000"})
    assert ledger.kept("p2", "h1") is None
    ledger.note_cached(origin._replace(phase="iterate"), "default", "big", "h1", saved_usd=0.25)
    used = Usage(teacher_calls=1, input_tokens=10, output_tokens=5, usd_spent=0.25)
    assert ledger.usage("j1") == used.model_copy(update={"cached_calls": 1, "usd_saved_by_cache": 0.25})
    assert ledger.usage_by_phase("j1") == {"distill": used, "iterate": Usage(cached_calls=1, usd_saved_by_cache=0.25)}
    assert ledger.usage("j2") == Usage()


def test_the_same_question_twice_keeps_the_first_answer(ledger: Ledger):
    calls = [ledger.begin(CallOrigin("p1", "j1"), "default", "big", "h1") for _ in range(2)]
    for n, call in enumerate(calls):
        ledger.settle(call, "ok", Cost(1, 1, 1.0), keep={"n": n})
    assert ledger.kept("p1", "h1") == (calls[0], {"n": 0})
    assert ledger.usage("j1").usd_spent == 2.0


@pytest.mark.parametrize("batch", [False, True])
def test_an_answer_that_no_longer_counts_is_replaced_by_the_next_one(ledger: Ledger, batch: bool):
    """A refusal that is over, for example; else each equal request would be paid again."""
    origin, batches = CallOrigin("p1", "j1", "s1"), BatchStore(ledger)
    refused = ledger.begin(origin, "default", "big", "h1", flight=True)
    ledger.settle(refused, "filtered", Cost(), keep={"refused": "not today"})
    if batch:
        call = batches.add(origin, "default", "big", "h1", Amount(0.5, 10), {}, 10, (100, 1000), [refused])
        batches.answered(call, "ok", Cost(1, 1, 1.0), {"n": 1}, keep=True)
    else:
        call = ledger.begin(origin, "default", "big", "h1", flight=True, passed_over=[refused])
        ledger.settle(call, "ok", Cost(1, 1, 1.0), keep={"n": 1})
    assert ledger.kept("p1", "h1") == (call, {"n": 1})


def test_a_request_is_not_batched_again_after_it_was_asked_for_elsewhere(ledger: Ledger):
    """Whoever adds it has looked for an answer before, and may have looked too early."""
    batches, body, size, capacity = BatchStore(ledger), {"messages": []}, 10, (100, 1000)

    def add(step: str, *passed_over: str) -> str:
        origin = CallOrigin("p", "j", step, "distill", "1")
        return batches.add(origin, "default", "m", "hash", Amount(0.5, 10), body, size, capacity, passed_over)

    call = add("step-0")
    with pytest.raises(InFlight):
        add("step-1")
    batches.answered(call, "ok", Cost(10, 5, 0.25), {"choices": []}, keep=True)
    with pytest.raises(InFlight):
        add("step-1")
    add("step-1", call)
    live = ledger.begin(CallOrigin("p", "j", "step-2"), "default", "m", "live", flight=True)
    with pytest.raises(InFlight):
        batches.add(CallOrigin("p", "j", "step-3"), "default", "m", "live", Amount(0.5, 10), body, size, capacity)
    ledger.settle(live, "failed", Cost())


def test_calls_that_never_settled_are_unknown(ledger: Ledger):
    done, lost = (ledger.begin(CallOrigin("p1", "j1"), "default", "big", f"h{n}") for n in range(2))
    ledger.settle(done, "http_500", Cost(), error="no answer")
    assert ledger.mark_unknown() == 1
    assert ledger.mark_unknown() == 0
    ledger.settle(lost, "ok", Cost(1, 1, 0.5))
    assert ledger.usage("j1").usd_spent == 0.5


# artifacts


def test_artifacts_are_named_by_their_content(artifacts: Artifacts):
    digest = artifacts.put_json({"b": 1, "a": "ü"})
    assert artifacts.put_json({"a": "ü", "b": 1}) == digest
    assert artifacts.get_json(digest) == {"a": "ü", "b": 1}
    assert artifacts.put_rows(iter([1, {"x": 2}])) == artifacts.put_json([1, {"x": 2}])
