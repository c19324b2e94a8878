"""What must hold after the drill on three hosts. Each check returns what is wrong, in words."""

from collections import Counter
from typing import Any

from tests.chaos import checks
from tests.hosts.drill import Drill
from tests.hosts.fleet import HOSTS
from tests.hosts.strikes import Deed

UNAVAILABLE_S = 15.0  # a served version answers within so many seconds, whichever host is away


def wrong(drill: Drill, strikes: int) -> list[str]:
    early = [f"{len(drill.struck)} of {strikes} strikes were made"] if len(drill.struck) < strikes else []
    return [*early, *ended(drill), *equal(drill), *paid(drill), *served(drill), *drill.left]


def ended(drill: Drill) -> list[str]:
    """Every job has ended well, once, and holds nothing."""
    told = [f"job {run.job['id']} {run.job['status']}: {run.job['error']}" for run in drill.disturbed
            if run.job["status"] != "succeeded"]  # fmt: skip
    if drill.posted != drill.listed:
        told.append(f"{drill.posted} jobs were posted and {drill.listed} are there")
    for run in drill.disturbed:
        told += [f"{run.job['suffix']}: {words}" for words in [*checks.once(run), *checks.released(run)]]
    return told


def equal(drill: Drill) -> list[str]:
    """A struck job and its undisturbed twin have the same data, counts, report and weights."""
    pairs = zip(drill.calm, drill.disturbed, strict=False)
    return [f"twin {number}: {words}" for number, (one, other) in enumerate(pairs) for words in checks.same(one, other)]


def paid(drill: Drill) -> list[str]:
    return checks.paid_once(drill.ledger, drill.log, drill.in_flight)


def served(drill: Drill) -> list[str]:
    told = []
    if drill.availability.longest_s > UNAVAILABLE_S:
        told.append(
            f"a served version did not answer for {drill.availability.longest_s:.1f} s, allowed are {UNAVAILABLE_S:.0f}"
        )
    for model, hosts in drill.answers.items():
        told += [f"{model} is not served by {name}" for name in HOSTS if name not in hosts]
    return told


def figures(drill: Drill, strikes: int, seed: int, seconds: float) -> dict[str, Any]:
    """The line of JSON."""
    deeds = Counter(str(item.strike.deed) for item in drill.struck if item.strike.deed is not Deed.PROCESS)
    deeds += Counter(item.strike.process.deed for item in drill.struck if item.strike.process is not None)
    waits = sorted(drill.availability.waits)
    attempts = [step.row["attempt"] for run in drill.disturbed for step in run.steps.values()]
    return {
        "drill": "three hosts",
        "seed": seed,
        "strikes": dict(sorted(deeds.items())),
        "seconds": round(seconds),
        "jobs": drill.posted,
        "steps": len(attempts),
        "attempts_beyond_the_first": sum(max(0, attempt - 1) for attempt in attempts),
        "teacher_calls": len(drill.log),
        "made_again": checks.repeated(drill.log),
        "unknown": sum(row["state"] == "unknown" for row in drill.ledger),
        "in_flight_when_struck": drill.in_flight,
        "chats": len(waits),
        "chat_wait_p50_s": round(waits[len(waits) // 2], 3) if waits else None,
        "chat_wait_p99_s": round(waits[int(0.99 * len(waits))], 3) if waits else None,
        "longest_unavailable_s": round(drill.availability.longest_s, 2),
        "answers_refused": dict(drill.availability.refused),
        "database_connections": drill.connections,
        "wrong": wrong(drill, strikes),
    }
