"""The drill's plain parts: its schedule, and that each of its checks notices what it is there for."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import checks, figures
from tests.chaos.outcome import Outcome, Step, Struck
from tests.chaos.schedule import LEASE_S, Strike, Target, schedule

TARGETS = [target for target in Target if target is not Target.POSTGRES]


def a_step(key: str, finished: float, **changes: Any) -> Step:
    rows = [{"id": f"{key}-{i}", "text": "t"} for i in range(2)]
    row = {"key": key, "input_hash": "h", "state": "succeeded", "attempt": 1, "lease_owner": None}
    row |= {"lease_expires": None, "finished_at": 100.0 + finished}
    return Step(row | changes, {"rows": copy.deepcopy(rows)}, {"rows": rows, "metrics": {"seconds": finished}}, "w")


def an_outcome(times: tuple[float, ...] = (1.0, 2.0, 4.0)) -> Outcome:
    job = {"status": "succeeded", "error": None, "lease_owner": None, "created_at": 100.0, "finished_at": 105.0}
    ledger = [{"id": "c1", "state": "settled", "outcome": "ok", "cached": False}]
    log = [{"request_id": "c1", "model": "m", "messages": ["q1"], "fault": None}]
    steps = {f"distill/answers/{n}": a_step(f"distill/answers/{n}", at) for n, at in enumerate(times)}
    return Outcome(job, {"job": "a", "table": [{"n": 3}], "timings": {"x": 1}}, steps, ledger, log)


def killed(target: Target, in_flight: int = 0, at: float = 1.0) -> Struck:
    return Struck(Strike(target, 0.0, None, 0.0), at, in_flight)


def test_the_schedule_follows_from_the_seed_and_leaves_nobody_out():
    strikes = schedule(7, 100, TARGETS)
    assert strikes == schedule(7, 100, TARGETS)
    assert strikes != schedule(8, 100, TARGETS)
    counts = Counter(strike.target for strike in strikes)
    assert counts.keys() == set(TARGETS)
    assert max(counts.values()) - min(counts.values()) <= 1
    frozen = [strike.freeze_s for strike in strikes if strike.freeze_s]
    assert 10 < len(frozen) < 60
    assert min(frozen) > LEASE_S


def test_equal_runs_have_no_fault():
    one, other = an_outcome(), an_outcome((2.0, 3.0, 9.0))
    other.report |= {"job": "b", "timings": {"x": 2}}
    assert checks.same(one, other) == []
    assert checks.once(other) + checks.ledger(other, []) + checks.released(other) == []


def change_report(run: Outcome) -> None:
    run.report["table"][0]["n"] = 4


def change_result(run: Outcome) -> None:
    run.steps["distill/answers/1"].result["rows"][0]["text"] = "u"


def change_weights(run: Outcome) -> None:
    run.steps["distill/answers/1"].weights = "v"


def change_input(run: Outcome) -> None:
    run.steps["distill/answers/1"].row["input_hash"] = "i"


def lose_step(run: Outcome) -> None:
    del run.steps["distill/answers/1"]


def fail_job(run: Outcome) -> None:
    run.job["status"] = "failed"


@pytest.mark.parametrize("change", [change_report, change_result, change_weights, change_input, lose_step, fail_job])
def test_whatever_differs_is_noticed(change):
    struck = an_outcome()
    change(struck)
    assert len(checks.same(an_outcome(), struck)) == 1


def test_an_example_twice_or_missing_is_noticed():
    twice, missing = an_outcome(), an_outcome()
    twice.steps["distill/answers/1"].request["rows"][0]["id"] = "distill/answers/0-0"
    twice.steps["distill/answers/1"].result["rows"][0]["id"] = "distill/answers/0-0"
    missing.steps["distill/answers/1"].result["rows"].pop()
    assert checks.once(twice) == ["distill/answers: given twice: distill/answers/0-0"]
    assert checks.once(missing) == ["distill/answers: 5 rows came of 6"]


def test_the_ledger_is_held_against_the_providers_log():
    run = an_outcome()
    run.log.append({"request_id": "c2", "model": "m", "messages": ["q2"], "fault": None})
    assert checks.ledger(run, []) == ["call c2 arrived and is not in the ledger"]
    run.ledger.append({"id": "c2", "state": "unknown", "outcome": None, "cached": False})
    assert "1 calls are unknown, 0 were in flight" in checks.ledger(run, [killed(Target.STRONG_WORKER, 3)])[0]
    assert checks.ledger(run, [killed(Target.GATEWAY, 1)]) == []
    run.log[1]["messages"] = ["q1"]
    assert checks.ledger(run, [killed(Target.GATEWAY, 1)]) == []
    assert any("paid for twice" in words for words in checks.ledger(run, []))
    run.ledger.append({"id": "c3", "state": "settled", "outcome": "ok", "cached": False})
    assert checks.ledger(run, [killed(Target.GATEWAY, 1)]) == ["call c3 never arrived and is settled (ok)"]
    run.ledger[-1]["state"] = "intent"
    assert "call c3 was left open" in checks.ledger(run, [killed(Target.GATEWAY, 1)])


def test_a_held_lease_is_noticed():
    run = an_outcome()
    run.steps["distill/answers/1"].row["lease_owner"] = "worker"
    run.job["lease_owner"] = "orchestrator"
    assert len(checks.released(run)) == 2


def test_what_is_left_on_the_disk_is_noticed(tmp_path: Path):
    (tmp_path / "artifacts" / "ab").mkdir(parents=True)
    (tmp_path / "artifacts" / "ab" / ("0" * 64)).touch()
    assert checks.tidy(tmp_path) == []
    (tmp_path / "artifacts" / "ab" / ".tmp-x").touch()
    (tmp_path / "scratch" / "step-1").mkdir(parents=True)
    assert checks.tidy(tmp_path) == ["left behind: artifacts/ab/.tmp-x", "left behind: scratch/step-1"]


def test_the_time_lost_is_what_went_by_less_what_was_done():
    """Undisturbed the steps end at 1, 2 and 4 s; here at 1, 5 and 8 s, with strikes at 1.5 and 6 s."""
    calm, struck = an_outcome(), an_outcome((1.0, 5.0, 8.0))
    struck.job["finished_at"] = 109.0
    struck.struck = [killed(Target.API, at=1.5), killed(Target.GATEWAY, 2, at=6.0)]
    assert figures.lost(calm, struck) == pytest.approx([4.5 - 1.0, 3.0 - 2.0])
    assert "api killed" in figures.table(calm, struck)
