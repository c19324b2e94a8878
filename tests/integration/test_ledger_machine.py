"""Any order of calls, in batches too, of ends, crashes and new limits: an account is the sum of its calls and never beyond its
limits."""

import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from shared.contracts.distillation import Budget
from shared.contracts.errors import BudgetExceeded
from shared.db.engine import engine_for, reading
from shared.ledger.accounts import Amount, RoomHeld
from shared.ledger.batch_store import BatchStore
from shared.ledger.store import CallOrigin, Cost, Ledger, open_ledger
from shared.ledger.tables import calls

CENT = 1 / 128  # sums of these are exact
ORIGIN = CallOrigin("p", "j")
ROOM = (3, 1000)  # requests and bytes of one batch


class Accounts(RuleBasedStateMachine):
    @initialize(cents=st.integers(0, 30), opened_first=st.booleans())
    def open(self, cents: int, opened_first: bool) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="meteor-ledger-")
        self.url = f"sqlite:///{Path(self.folder.name) / 'l.sqlite3'}"
        self.ledger: Ledger = open_ledger(self.url)
        self.limit = cents
        if not opened_first:
            self.ledger.settle(self.ledger.begin(ORIGIN, "a", "m", "h", Amount(CENT, 1)), "ok", Cost(1, 0, 0.0))
        self.ledger.set_budget("j", Budget(max_usd=cents * CENT), change=False)
        self.open_calls: dict[str, int] = {}
        self.in_batches: set[str] = set()
        self.batches = BatchStore(self.ledger)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            engine_for(self.url).dispose()
            self.folder.cleanup()

    def put(self, most: Amount, batch: bool) -> str:
        if not batch:
            return self.ledger.begin(ORIGIN, "a", "m", "h", most)
        call = self.batches.add(ORIGIN, "a", "m", f"h{len(self.in_batches)}", most, {}, 10, ROOM)
        self.in_batches.add(call)
        return call

    @rule(cents=st.integers(0, 9), batch=st.booleans())
    def begin(self, cents: int, batch: bool) -> None:
        spent, held = self.sums()
        try:
            self.open_calls[self.put(Amount(cents * CENT, cents), batch)] = cents
            assert spent + held + cents <= self.limit
        except RoomHeld:
            assert held
            assert spent + cents <= self.limit < spent + held + cents
        except BudgetExceeded:
            assert spent + cents > self.limit or not self.open_calls

    @precondition(lambda self: self.open_calls)
    @rule(data=st.data(), known=st.booleans())
    def end(self, data: st.DataObject, known: bool) -> None:
        call = data.draw(st.sampled_from(sorted(self.open_calls)))
        cents = data.draw(st.integers(0, self.open_calls.pop(call)))
        self.ledger.settle(call, "ok" if known else "timeout", Cost(cents, 0, cents * CENT) if known else None)

    @rule(late=st.booleans())
    def crash(self, late: bool) -> None:
        """What is in a batch can still be fetched; of all else nobody knows."""
        lost = {call: cents for call, cents in self.open_calls.items() if call not in self.in_batches}
        assert self.ledger.mark_unknown() == len(lost)
        if late and lost:  # an answer that comes after all
            call, cents = next(iter(lost.items()))
            self.ledger.settle(call, "ok", Cost(cents, 0, cents * CENT))
        self.open_calls = {call: cents for call, cents in self.open_calls.items() if call not in lost}

    @precondition(lambda self: self.in_batches & self.open_calls.keys())
    @rule(data=st.data())
    def batch_ends(self, data: st.DataObject) -> None:
        """Without an answer to what is still open in it, which costs nothing then."""
        call = data.draw(st.sampled_from(sorted(self.in_batches & self.open_calls.keys())))
        with reading(self.ledger.engine) as connection:
            batch = connection.execute(select(calls.c.batch_id).where(calls.c.id == call)).scalar_one()
        self.batches.seal(time.time())
        for ended in self.batches.open_calls(batch):
            del self.open_calls[ended]
        self.batches.end(batch, "expired", None)

    @rule(cents=st.integers(0, 60))
    def give(self, cents: int) -> None:
        self.limit = cents
        self.ledger.set_budget("j", Budget(max_usd=cents * CENT))

    def sums(self) -> tuple[float, float]:
        """Cents spent and held, by the calls."""
        with reading(self.ledger.engine) as connection:
            rows = connection.execute(select(calls)).all()
        total = dict.fromkeys((True, False), 0.0)
        for row in rows:
            total[row.state == "intent"] += (row.usd + row.reserved_usd) / CENT
        return total[False], total[True]

    @invariant()
    def account_is_the_sum_of_its_calls(self) -> None:
        if not hasattr(self, "open_calls"):
            return
        account = self.ledger.account("j")
        assert account is not None
        assert (account.usd / CENT, account.held_usd / CENT) == self.sums()
        assert account.held_calls == len(self.open_calls)


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
