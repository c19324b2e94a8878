"""What must hold after a drill. Each check returns what is wrong, in words; nothing wrong is an empty list."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from shared.jobs.states import StepState
from tests.chaos.outcome import Outcome, Struck
from tests.chaos.schedule import Target

# All that may differ between a disturbed and an undisturbed run, by path.
LISTED = {
    "report": [
        "job",  # an id
        "data.files.*.file", "data.files.*.dataset",  # ids
        "timings",  # times
        "*.seconds", "*.tokens_per_second",  # times
        "*.resumed_from_step",  # attempts
        "teacher.*",  # calls: those made again, and those answered from what was kept
        "phases.pilot.estimate.spent.*", "phases.pilot.estimate.phases.pilot.*",  # the pilot's calls, likewise
        "phases.pilot.estimate.total.*",  # of which they are a part
    ],
    "step": [
        "rows.*.call_id", "rows.*.call_ids",  # ids
        "metrics.seconds", "metrics.tokens_per_second",  # times
        "metrics.resumed_from_step", "metrics.cached_calls",  # attempts: what an earlier one had done and paid for
    ],
}  # fmt: skip
LOSES_ANSWERS = (Target.GATEWAY, Target.POSTGRES)  # whose death leaves a paid answer without a place


def same(calm: Outcome, struck: Outcome) -> list[str]:
    """Data, counts, report and adapters of both runs are equal but for LISTED."""
    wrong = [f"the {name} job {run.job['status']}: {run.job['error']}" for name, run in _named(calm, struck)
             if run.job["status"] != "succeeded"]  # fmt: skip
    wrong += [f"report: {words}" for words in differences("report", calm.report, struck.report)]
    for key in sorted(calm.steps.keys() | struck.steps.keys()):
        one, other = calm.steps.get(key), struck.steps.get(key)
        if one is None or other is None:
            wrong.append(f"step {key} is in one run only")
            continue
        if one.row["input_hash"] != other.row["input_hash"]:
            wrong.append(f"step {key} was given other rows or settings")
        if one.weights != other.weights:
            wrong.append(f"step {key} trained other weights")
        wrong += [f"step {key}: {words}" for words in differences("step", one.result, other.result)]
    return wrong


def _named(calm: Outcome, struck: Outcome) -> list[tuple[str, Outcome]]:
    return [("undisturbed", calm), ("disturbed", struck)]


def differences(kind: str, one: Any, other: Any) -> list[str]:
    """The paths at which two JSON values differ, those in LISTED left out; empty: they are equal byte by byte."""
    left, right = (dict(_leaves(value)) for value in (one, other))
    told = []
    for path in sorted(left.keys() | right.keys()):
        if left.get(path) != right.get(path) and not any(_covers(pattern, path) for pattern in LISTED[kind]):
            told.append(f"{path} is {right.get(path)}, undisturbed {left.get(path)}")
    return told


def _covers(pattern: str, path: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None or not value:
        yield path, json.dumps(value)
        return
    for name, item in items:
        yield from _leaves(item, f"{path}.{name}" if path else str(name))


def once(run: Outcome) -> list[str]:
    """Every example stands exactly once in each step's rows, and in the batches of one gather together."""
    wrong = []
    given: defaultdict[str, list[str]] = defaultdict(list)
    made: defaultdict[str, list[str]] = defaultdict(list)
    for key, step in run.steps.items():
        family, _, tail = key.rpartition("/")
        name = family if tail.isdigit() else key
        given[name] += [row["id"] for row in step.request["rows"] if "id" in row]
        made[name] += [row["id"] for row in step.result.get("rows", [])]
    for name, ids in given.items():
        if twice := sorted(row for row, count in Counter(ids).items() if count > 1):
            wrong.append(f"{name}: given twice: {', '.join(twice[:5])}")
        if made[name] and Counter(made[name]) != Counter(ids):
            wrong.append(f"{name}: {len(made[name])} rows came of {len(ids)}")
    return wrong


def ledger(run: Outcome, struck: Iterable[Struck]) -> list[str]:
    """The provider's log against the ledger: one row per call that arrived; what never arrived is unknown."""
    return paid_once(run.ledger, run.log, in_flight(struck))


def paid_once(ledger: Iterable[dict[str, Any]], log: Iterable[dict[str, Any]], open_then: int) -> list[str]:
    """open_then: calls in flight whenever somebody was struck who takes their answers in."""
    log = list(log)
    rows = {row["id"]: row for row in ledger if not row["cached"]}
    arrived = Counter(entry["request_id"] for entry in log)
    wrong = [f"call {call} arrived {count} times" for call, count in arrived.items() if count > 1]
    wrong += [f"call {call} arrived and is not in the ledger" for call in arrived if call not in rows]
    wrong += [f"call {call} was left open" for call, row in rows.items() if row["state"] == "intent"]
    for call, row in rows.items():
        if call not in arrived and row["state"] != "unknown":
            wrong.append(f"call {call} never arrived and is {row['state']} ({row['outcome']})")
    unknown = sum(row["state"] == "unknown" for row in rows.values())
    if unknown > open_then:
        wrong.append(f"{unknown} calls are unknown, {open_then} were in flight when a gateway was killed")
    if (again := repeated(log)) > open_then:
        wrong.append(f"{again} calls were paid for twice, {open_then} were in flight when an answer could be lost")
    return wrong


def in_flight(struck: Iterable[Struck]) -> int:
    """Calls that were open when somebody was killed who takes their answers in; who was frozen takes them in later."""
    return sum(item.in_flight for item in struck if item.strike.target in LOSES_ANSWERS and not item.strike.freeze_s)


def repeated(log: Iterable[dict[str, Any]]) -> int:
    """Calls that had arrived before, with the same messages. One that was refused or broken off by the provider cost nothing."""
    asked = Counter(json.dumps([entry["model"], entry["messages"]]) for entry in log if entry["fault"] is None)
    return sum(count - 1 for count in asked.values())


def released(run: Outcome) -> list[str]:
    """Nobody holds anything any more."""
    wrong = [f"step {key} is held by {step.row['lease_owner']}" for key, step in run.steps.items()
             if step.row["lease_owner"] is not None or step.row["lease_expires"] is not None]  # fmt: skip
    wrong += [f"step {key} is {step.row['state']}" for key, step in run.steps.items()
              if step.row["state"] != StepState.SUCCEEDED]  # fmt: skip
    return wrong + ([f"the job is held by {run.job['lease_owner']}"] if run.job["lease_owner"] is not None else [])


def tidy(data: Path) -> list[str]:
    """No half-written file and no scratch folder is left."""
    left = [path for folder in ("artifacts", "serving", "broker") for path in (data / folder).rglob(".tmp-*")]
    left += list((data / "scratch").iterdir()) if (data / "scratch").is_dir() else []
    return [f"left behind: {path.relative_to(data)}" for path in left]
