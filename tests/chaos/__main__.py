"""The drill: `python -m tests.chaos --seed 7 --kills 100 --db sqlite` (make chaos SEED=7 KILLS=100 DB=sqlite)."""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.chaos import checks, figures, jobs
from tests.chaos.drill import Plan, disturbed, undisturbed
from tests.fakes.tiny_model import make_tiny_llama


def hold(plan: Plan, work: Path, say) -> list[str]:
    """Run both jobs, print the figures, return what is wrong."""
    student = make_tiny_llama(work / "tiny")
    say(f"undisturbed, {plan.database}, seed {plan.seed}")
    calm = undisturbed(plan, work / "undisturbed", student)
    say(
        f"undisturbed: {calm.seconds:.0f} s, {len(calm.steps)} steps, {len(calm.log)} calls; now with {plan.kills} strikes"
    )
    struck, left = disturbed(plan, work / "disturbed", student, calm, say)
    say(figures.table(calm, struck))
    early = [f"the job ended after {len(struck.struck)} of {plan.kills} strikes"]
    return [
        *(early if len(struck.struck) < plan.kills else []),
        *checks.same(calm, struck),
        *checks.once(struck),
        *checks.ledger(struck, struck.struck),
        *checks.released(struck),
        *checks.tidy(work / "disturbed"),
        *left,
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--db", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--short", action="store_true", help="the small job that `make test` runs")
    parser.add_argument("--batch", action="store_true", help="teacher and judge by the provider's batch API")
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="meteor-chaos-"))
    plan = Plan(given.seed, given.kills, 200, jobs.FULL, given.db)
    if given.short:
        plan = replace(plan, questions=40, job=jobs.SHORT, gap_s=5.0)
    if given.batch:
        plan = replace(plan, job=jobs.in_batches(plan.job))
    began = time.monotonic()
    wrong = hold(plan, work, _say)
    _say(f"the drill took {time.monotonic() - began:.0f} s; {len(wrong)} things are wrong")
    for words in wrong:
        _say(f"WRONG  {words}")
    if wrong:
        _say(f"logs and data: {work}")
        return 1
    shutil.rmtree(work)
    return 0


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
