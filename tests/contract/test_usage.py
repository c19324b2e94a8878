"""GET /v1/usage, /v1/system and /v1/files/{id}/rows over a real API and its ledger."""

import time

import httpx

from shared.contracts.steps import Queue
from shared.jobs.heartbeat import Heartbeat
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.accounts import Amount, Limits
from shared.ledger.store import CallOrigin, Cost, Ledger, open_ledger
from tests.contract.conftest import RunningApi, rows


def _paid(ledger: Ledger, project: str, phase: str | None, usd: float, provider: str = "default") -> None:
    call = ledger.begin(CallOrigin(project, phase=phase), provider, "m", f"{time.time_ns():064d}", Amount(usd, 100))
    ledger.settle(call, "ok", Cost(60, 40, usd), latency_ms=120.0)


def _project_key(http: httpx.Client, name: str) -> tuple[str, dict[str, str]]:
    project = http.post("/v1/projects", json={"name": name, "limits": {"teacher_usd_per_day": 2}}).json()["id"]
    key = http.post("/v1/keys", json={"name": name, "project": project, "scopes": ["admin"]}).json()["key"]
    return project, {"authorization": f"Bearer {key}"}


def test_usage_is_summed_by_what_it_was_for(api: RunningApi, http: httpx.Client):
    project, key = _project_key(http, "usage")
    ledger = open_ledger(api.platform.ledger_database)
    for phase, usd in (("distill", 0.25), ("distill", 0.5), ("iterate", 1.0), (None, 0.125)):
        _paid(ledger, project, phase, usd)
    ledger.note_cached(CallOrigin(project, phase="iterate"), "default", "m", "9" * 64, saved_usd=0.5)
    _paid(ledger, DEFAULT_PROJECT, "distill", 7.0)

    def asked(**query: str | int) -> dict:
        answer = http.get("/v1/usage", params=query, headers=key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    by_phase = asked(group_by="phase")
    assert [(row["group"], row["usd_spent"], row["teacher_calls"]) for row in by_phase["data"]] == [
        ("iterate", 1.0, 1), ("distill", 0.75, 2), (None, 0.125, 1),
    ]  # fmt: skip
    assert by_phase["data"][0]["usd_saved_by_cache"] == 0.5
    assert (by_phase["total"]["usd_spent"], by_phase["total"]["cached_calls"]) == (1.875, 1)
    today = asked()
    assert [row["group"] for row in today["data"]] == [time.strftime("%Y-%m-%d", time.gmtime())]
    first = asked(group_by="phase", limit=1)
    assert (len(first["data"]), first["has_more"], first["total"]) == (1, True, by_phase["total"])
    assert {row["group"]: row["teacher_calls"] for row in asked(group_by="outcome")["data"]} == {"ok": 4, "cached": 0}
    [budget] = by_phase["budgets"]
    assert (budget["limits"]["max_usd"], budget["spent"]["usd"]) == (2.0, 1.875)
    assert [row["group"] for row in asked(group_by="project")["data"]] == [project]
    every = http.get("/v1/usage", params={"group_by": "project"}).json()["data"]
    assert {project, DEFAULT_PROJECT} <= {row["group"] for row in every}
    old = asked(since=1, until=1000)
    assert (old["data"], old["total"]["teacher_calls"]) == ([], 0)


def test_a_time_that_ends_before_it_begins_is_refused(http: httpx.Client):
    answer = http.get("/v1/usage", params={"since": 20, "until": 10})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "since")


def test_a_key_without_the_scope_sees_no_usage(http: httpx.Client):
    key = http.post("/v1/keys", json={"name": "jobs only", "scopes": ["jobs"]}).json()["key"]
    answer = http.get("/v1/usage", headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


def test_calls_at_the_limit_of_a_day_belong_to_their_day(api: RunningApi, http: httpx.Client):
    project, key = _project_key(http, "days")
    ledger = open_ledger(api.platform.ledger_database)
    ledger.set_standing_limits(project, Limits())
    _paid(ledger, project, "distill", 0.5)
    now = int(time.time())
    ends = http.get("/v1/usage", params={"since": now - 60, "until": now + 60}, headers=key).json()
    begins = http.get("/v1/usage", params={"since": now + 60, "until": now + 120}, headers=key).json()
    assert (ends["total"]["usd_spent"], begins["total"]["usd_spent"]) == (0.5, 0.0)
    assert ends["budgets"] == []


def test_the_system_is_the_operators(api: RunningApi, http: httpx.Client):
    _, key = _project_key(http, "not the operator")
    assert http.get("/v1/system", headers=key).status_code == 403
    beat = Heartbeat(lambda: api.stores, "weak@host:1", "weak_model", Queue.WEAK, 3)
    beat.beat(False)
    ledger = open_ledger(api.platform.ledger_database)
    _paid(ledger, DEFAULT_PROJECT, None, 0.1, provider="spare")
    failed = ledger.begin(CallOrigin(DEFAULT_PROJECT), "spare", "m", "8" * 64)
    ledger.settle(failed, "http_500", Cost(), error="the provider failed")
    shown = http.get("/v1/system").json()
    process = next(one for one in shown["processes"] if one["id"] == "weak@host:1")
    assert (process["state"], process["queue"], process["slots"]) == ("alive", "weak", 3)
    weak = next(queue for queue in shown["queues"] if queue["id"] == "weak")
    assert weak["slots"] >= 3
    spare = next(one for one in shown["calls"] if one["id"] == "spare")
    assert spare["outcomes"] == {"ok": 1, "http_500": 1}
    assert (spare["error"], spare["latency_ms"]) == ("the provider failed", 120.0)


def test_rows_of_a_file_have_their_split_and_pages(http: httpx.Client):
    sent = http.post("/v1/files", files={"file": ("sums.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()
    path = f"/v1/files/{sent['id']}/rows"
    first = http.get(path, params={"limit": 40}).json()
    rest = http.get(path, params={"limit": 40, "after": first["last_id"]}).json()
    assert (len(first["data"]), first["has_more"], len(rest["data"]), rest["has_more"]) == (40, True, 20, False)
    told = [row["split"] for row in first["data"] + rest["data"]]
    assert {split: told.count(split) for split in set(told)} == sent["splits"]
    test = http.get(path, params={"split": "test", "limit": 100}).json()["data"]
    assert {row["split"] for row in test} == {"test"}
    assert len(test) == sent["splits"]["test"]
    wrong = http.get(path, params={"after": "nobody"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "unknown_cursor")
    raw = http.post("/v1/files", files={"file": ("a.txt", b"text")}, data={"purpose": "user_data"}).json()
    assert http.get(f"/v1/files/{raw['id']}/rows").status_code == 400
