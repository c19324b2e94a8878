"""What a project may use, on both databases: jobs at work, bytes stored, USD a day. No number of callers at once exceeds it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.contracts.distillation import Budget, Distillation
from shared.contracts.errors import BudgetExceeded, NotFound, StorageFull, UserError
from shared.contracts.jobs import JobRequest, JobStatus
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger import store as ledger_store
from shared.ledger.accounts import Amount, Limits, RoomHeld, day_account
from shared.ledger.store import CallOrigin, Cost, Ledger, open_ledger

GOOD = {"sha256": "0" * 64, "filename": "rows.jsonl", "purpose": "fine-tune", "status": "processed"}
NOON = 1_790_000_000 // 86_400 * 86_400 + 43_200


def new_file(stores: Stores, project: str, size: int = 1) -> str:
    return stores.catalog.add_file(project, bytes=size, errors=[], n_rows=1, splits={"train": 1}, **GOOD).id


def new_jobs(stores: Stores, project: str, count: int) -> list[str]:
    file = new_file(stores, project)
    request = JobRequest(model="tiny", training_file=file, distillation=Distillation(domain="shell"))
    return [stores.jobs.create(project, request).id for _ in range(count)]


def test_jobs_beyond_the_limit_wait_and_hold_up_nobody_else(stores: Stores):
    crowded = stores.projects.add("crowded", concurrent_jobs=1).id
    first, second = new_jobs(stores, crowded, 2)
    (other,) = new_jobs(stores, DEFAULT_PROJECT, 1)
    taken = [stores.jobs.claim("o", 60) for _ in range(3)]
    assert [row and row.id for row in taken] == [first, other, None]
    waiting = stores.jobs.get(second)
    assert waiting is not None
    assert stores.overview.waiting([waiting], 60)[second].project_full
    assert taken[0] is not None
    assert stores.jobs.end(taken[0], JobStatus.SUCCEEDED)
    assert not stores.overview.waiting([waiting], 60)[second].project_full
    following = stores.jobs.claim("o", 60)
    assert following is not None
    assert following.id == second


def test_a_job_whose_orchestrator_was_lost_is_taken_up_in_a_full_project(stores: Stores):
    project = stores.projects.add("crowded", concurrent_jobs=1).id
    (job,) = new_jobs(stores, project, 1)
    assert stores.jobs.claim("o", 0)
    again = stores.jobs.claim("p", 60)
    assert again is not None
    assert (again.id, again.attempt) == (job, 2)


def test_orchestrators_at_once_stay_within_the_limit(stores: Stores):
    project = stores.projects.add("crowded", concurrent_jobs=2).id
    new_jobs(stores, project, 12)

    def claims(owner: int) -> int:
        return sum(stores.jobs.claim(f"o{owner}", 60) is not None for _ in range(4))

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(claims, range(6))) == 2


def test_files_at_once_stay_within_the_limit(stores: Stores):
    project = stores.projects.add("small", stored_bytes=100).id

    def add(_: int) -> int:
        try:
            new_file(stores, project, 30)
        except StorageFull:
            return 0
        return 1

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(add, range(8))) == 3
    stores.catalog.check_room(project, 10)
    with pytest.raises(StorageFull, match="take 90 of 100 bytes"):
        stores.catalog.check_room(project, 11)
    rows, _ = stores.catalog.file_page(project, None, 10)
    stores.catalog.delete_file(project, rows[0].id)
    stores.catalog.check_room(project, 40)
    new_file(stores, DEFAULT_PROJECT, 10_000)


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    return open_ledger(database_url)


def begin(ledger: Ledger, project: str = "p", usd: float = 0.3) -> str:
    return ledger.begin(CallOrigin(project, "j"), "default", "m", "h", Amount(usd, 10))


def test_a_day_has_a_limit_and_the_next_one_its_own(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger_store.time, "time", lambda: NOON)
    begin(ledger)  # spent before there was a limit: counts
    assert ledger.standing_limits("p").usd is None
    ledger.set_standing_limits("p", Limits(usd=1.0))
    assert ledger.standing_limits("p").usd == 1.0
    for _ in range(2):
        ledger.settle(begin(ledger), "ok", Cost(5, 5, 0.3))
    ledger.settle(begin(ledger, usd=0.05), "ok", Cost(5, 5, 0.05))
    assert ledger.mark_unknown() == 1
    with pytest.raises(BudgetExceeded, match=r"limit of this day \(UTC\): 0.95 USD of 1 USD"):
        begin(ledger)
    begin(ledger, project="q", usd=5)
    ledger.set_standing_limits("p", Limits(usd=2.0))
    ledger.settle(begin(ledger), "ok", Cost(5, 5, 0.3))
    ledger.set_standing_limits("p", Limits(usd=1.0))
    with pytest.raises(BudgetExceeded):
        begin(ledger)
    monkeypatch.setattr(ledger_store.time, "time", lambda: NOON + 43_199)
    with pytest.raises(BudgetExceeded):
        begin(ledger)
    monkeypatch.setattr(ledger_store.time, "time", lambda: NOON + 43_200)
    begin(ledger)
    ledger.set_standing_limits("p", Limits(usd=None))
    begin(ledger, usd=50)


def test_accounts_of_days_and_months_have_their_own_names():
    assert day_account("p", NOON).rpartition("-")[0] == ledger_store.month_account("p", NOON)


def test_projects_are_listed_newest_first_and_seen_by_their_own(stores: Stores):
    made = [stores.projects.add(f"p{n}").id for n in range(3)][::-1]
    page, more = stores.projects.page(None, None, 2)
    assert ([row.id for row in page], more) == (made[:2], True)
    page, more = stores.projects.page(None, made[1], 10)
    assert ([row.id for row in page], more) == ([made[2], DEFAULT_PROJECT], False)
    page, more = stores.projects.page(made[1], None, 10)
    assert [row.id for row in page] == [made[1]]
    with pytest.raises(NotFound):
        stores.projects.get(made[1], made[0])
    with pytest.raises(UserError, match="continue after"):
        stores.projects.page(made[1], made[0], 10)


def test_the_jobs_of_a_key_share_its_month(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger_store.time, "time", lambda: NOON)

    def of(job: str, usd: float = 0.3) -> str:
        return ledger.begin(CallOrigin("p", job), "default", "m", "h", Amount(usd, 10))

    for job, key_id in (("a", "key-1"), ("b", "key-1"), ("c", "key-2"), ("d", None)):
        ledger.set_budget(job, Budget(), key_id=key_id)
    ledger.settle(of("a"), "ok", Cost(5, 5, 0.3))  # spent before there was a limit: counts
    ledger.set_standing_limits("key-1", Limits(usd=1.0))
    on_its_way = of("b", 0.5)
    assert ledger.spent_by_key("key-1", NOON) == (0.8, 20, 2)
    with pytest.raises(RoomHeld):
        of("a")
    ledger.settle(on_its_way, "ok", Cost(5, 5, 0.5))
    with pytest.raises(BudgetExceeded, match=r"budget of API key key-1: 0.8 USD of 1 USD") as refused:
        of("a")
    assert refused.value.job_id is None
    of("c", 5)
    of("d", 5)
    ledger.mark_unknown()  # a new start
    with pytest.raises(BudgetExceeded):
        of("b")
    ledger.set_budget("b", Budget(max_usd=9), key_id="key-1")  # the job's own budget is another matter
    with pytest.raises(BudgetExceeded):
        of("b")
    monkeypatch.setattr(ledger_store.time, "time", lambda: NOON + 40 * 24 * 3600)
    of("b")
    ledger.set_standing_limits("key-1", Limits(calls=1))
    with pytest.raises((BudgetExceeded, RoomHeld)):
        of("b")
