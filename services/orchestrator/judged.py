"""The final model against the base in the judge's eyes: five criteria, each pair in both orders (paper section 4).

The judge is a measuring device of unknown quality, so its own figures stand beside what it says, and it decides nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.orchestrator import selection
from services.orchestrator.results import Measured, triple
from services.orchestrator.run import Run
from services.orchestrator.teaching import OVERALL, POINTS
from shared.contracts.data import Question
from shared.contracts.rows import Compared, Preference
from shared.contracts.steps import StepKind
from shared.statistics import Interval, mean_interval, share_interval


async def judged(run: Run, questions: Sequence[Question], base: Measured, final: Measured) -> dict[str, Any] | None:
    """Shares that the final model wins, by criterion; None where the job asks for no judged questions.

    Batch after batch, until the interval of the overall share is as narrow as asked or the questions are used up.
    """
    settings = run.spec.evaluation
    rows = [
        Compared(id=q.id, question=q.text, first=before, second=after, reference=q.reference)
        for q, before, after in zip(questions, base.answers, final.answers, strict=True)
    ][: settings.judged_questions]
    if not rows or final.model == base.model:
        return None
    seen: list[Preference] = []
    counts: Counter[str] = Counter()
    for index, batch in enumerate(selection.batches(rows, run.spec.batch_size)):
        compared = await run.step(f"evaluate/judged/{index}", StepKind.COMPARE, run.judging(), batch)
        seen += [Preference(**row) for row in compared.rows]
        counts.update(compared.metrics)
        overall = mean_interval([POINTS[preference.winners[OVERALL]] for preference in seen])
        if overall.high - overall.low <= 2 * settings.judged_margin:
            break
    return {
        "n": len(seen),
        "wanted": len(rows),
        "criteria": {name: criterion(seen, name) for name in seen[0].winners},
        "judge": quality(run, rows, seen, counts),
    }


def criterion(seen: Sequence[Preference], name: str) -> dict[str, Any]:
    """How often the final model won, tied and lost; share: ties split, with its 95 % interval."""
    found = Counter(preference.winners[name] for preference in seen)
    points = [POINTS[preference.winners[name]] for preference in seen]
    return {
        "win": found["second"],
        "tie": found["tie"],
        "loss": found["first"],
        "share": triple(mean_interval(points)),
    }


def quality(run: Run, rows: Sequence[Compared], seen: Sequence[Preference], counts: Counter[str]) -> dict[str, Any]:
    """What is known of the judge: replies it failed to give, verdicts that turn with the order, a taste for length."""
    parsed = [preference for preference in seen if preference.parsed]
    by_id = {row.id: row for row in rows}
    decided = [(by_id[p.id], p.winners[OVERALL]) for p in parsed if p.winners[OVERALL] != "tie"]
    longer = [
        (len(row.second) > len(row.first)) == (winner == "second")
        for row, winner in decided
        if len(row.second) != len(row.first)
    ]
    flipped = sum(OVERALL in preference.flipped for preference in parsed)
    first = share_interval(counts["preferred_a"], counts["preferred_a"] + counts["preferred_b"])
    return {
        "unparsed": len(seen) - len(parsed),
        "flip_rate": triple(share_interval(flipped, len(parsed))),
        "preferred_the_first_shown": triple(first),
        "preferred_the_longer": triple(share_interval(sum(longer), len(longer))),
        "warnings": warnings(run, first, flipped, len(parsed)),
    }


def warnings(run: Run, first: Interval, flipped: int, parsed: int) -> list[str]:
    found = []
    if run.spec.judge.provider == run.spec.teacher.provider:
        found.append("judge and teacher are the same model: it may favour what it has taught")
    if first.n and (first.low > 0.5 or first.high < 0.5):
        found.append(f"the judge favours a place: in {first.value:.0%} of its verdicts the answer shown first won")
    if parsed and flipped / parsed > 0.5:
        found.append("most verdicts turn with the order of the answers; little can be told from the others")
    return found
