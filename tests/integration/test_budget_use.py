"""The fullest budget of each kind, as metrics show it."""

import time
from pathlib import Path

import pytest

from shared.contracts.distillation import Budget
from shared.ledger.accounts import EVERY_PROJECT, Amount, Limits
from shared.ledger.budget_use import BudgetKind, BudgetUse, budget_use
from shared.ledger.store import CallOrigin, Cost, Ledger, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", Limits(usd=40.0))


def pay(ledger: Ledger, job: str, usd: float, settle: bool = True) -> None:
    call = ledger.begin(CallOrigin("p", job, "s", "distill", "e"), "default", "m", "h", Amount(usd, 10, 1))
    if settle:
        ledger.settle(call, "ok", Cost(5, 5, usd))


def test_what_is_spent_and_held_counts_against_the_tightest_limit(ledger: Ledger):
    assert set(budget_use(ledger.engine, [], time.time()).values()) == {BudgetUse()}
    ledger.set_budget("j1", Budget(max_usd=10, max_calls=4), key_id="k")
    ledger.set_budget("j2", Budget(max_usd=100), key_id="k")
    ledger.set_budget("j3", Budget())
    ledger.set_standing_limits("k", Limits(usd=8.0))
    ledger.set_standing_limits("p", Limits(tokens=1000))
    pay(ledger, "j1", 1.0)
    pay(ledger, "j1", 2.0, settle=False)
    pay(ledger, "j2", 1.0)
    used = budget_use(ledger.engine, ["j1", "j2", "j3"], time.time())
    assert used[BudgetKind.JOB] == pytest.approx((0.5, 2)), "two of four calls"
    assert used[BudgetKind.KEY_MONTH] == pytest.approx((0.5, 1)), "4 of 8 USD"
    assert used[BudgetKind.PROJECT_DAY] == pytest.approx((0.03, 1)), "30 of 1000 tokens"
    assert used[BudgetKind.PROJECT_MONTH] == pytest.approx((0.1, 1)), f"4 of 40 USD, of {EVERY_PROJECT}"
    assert budget_use(ledger.engine, ["j2"], time.time())[BudgetKind.JOB].used == pytest.approx(0.01)
