"""What a drill has measured, as a table for people."""

from collections import Counter
from statistics import mean, median

from tests.chaos.checks import in_flight, repeated
from tests.chaos.outcome import Outcome


def lost(calm: Outcome, struck: Outcome) -> list[float]:
    """Seconds lost after each strike until the next one (or the end): the time that went by, less the time that the
    undisturbed run had needed for the steps that were finished in it. A step that was nearly done makes it negative."""
    cuts = [item.at for item in struck.struck] + [struck.seconds]
    useful = [_useful(calm, struck, at) for at in cuts]
    return [cuts[i + 1] - cuts[i] - (useful[i + 1] - useful[i]) for i in range(len(cuts) - 1)]


def _useful(calm: Outcome, struck: Outcome, at: float) -> float:
    done = sum(finished <= at for finished in struck.finish_times)
    return calm.finish_times[min(done, len(calm.finish_times)) - 1] if done else 0.0


def table(calm: Outcome, struck: Outcome) -> str:
    strikes = struck.struck
    per_target = Counter(f"{item.strike.target} {item.strike.deed}" for item in strikes)
    attempts = sum(step.row["attempt"] for step in struck.steps.values())
    unknown = sum(row["state"] == "unknown" for row in struck.ledger)
    seconds = lost(calm, struck)
    again = repeated(struck.log)
    rows = [
        ("steps of the job", f"{len(struck.steps)}"),
        ("strikes (killed, frozen)", f"{len(strikes)} ({_deeds(struck, 'killed')}, {_deeds(struck, 'frozen')})"),
        ("wall time, undisturbed", f"{calm.seconds:.0f} s"),
        ("wall time, disturbed", f"{struck.seconds:.0f} s"),
        ("time lost per strike, median", f"{median(seconds):.1f} s"),
        ("time lost per strike, mean", f"{mean(seconds):.1f} s"),
        (
            "attempts of steps beyond the first",
            f"{attempts - sum(s.row['attempt'] > 0 for s in struck.steps.values())}",
        ),
        ("teacher calls, undisturbed", f"{len(calm.log)}"),
        ("teacher calls, disturbed", f"{len(struck.log)}"),
        ("teacher calls made again", f"{again} ({again / max(1, len(strikes)):.3f} per strike)"),
        ("calls in flight when answers could be lost", f"{in_flight(strikes)}"),
        ("calls of unknown end", f"{unknown}"),
        ("half-written files, collected", f"{struck.leftovers}"),
        *sorted((f"  {name}", str(count)) for name, count in per_target.items()),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _deeds(run: Outcome, deed: str) -> int:
    return sum(item.strike.deed == deed for item in run.struck)
