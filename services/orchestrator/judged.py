"""The final model against the base in the judge's eyes (paper section 4): five criteria pairwise, each pair in both
orders, and a score from 1 to 10 for each answer.

The judge is a measuring device of unknown quality, so its own figures stand beside what it says, and it decides nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.orchestrator.preferred import what_measures
from services.orchestrator.results import Measured, triple
from services.orchestrator.run import Run
from services.orchestrator.teaching import OVERALL, POINTS
from shared.contracts.data import Question
from shared.contracts.rows import AnswerScores, ComparisonInput, JudgeInput, Preference
from shared.contracts.steps import StepKind
from shared.evaluation.judge_quality import UNPARSED_MOST, quality
from shared.evaluation.statistics import Interval, mean_interval, paired_mean_gain

LOWEST, HIGHEST = 1, 10  # of an absolute score
SAME_SCORE = 0.9  # share of answers with one and the same score from which scores are warned of
REPEATED = 2  # a reply that cannot be read is asked for once more


class Seen:
    """What the judge has said so far, question by question, and the calls it took."""

    def __init__(self) -> None:
        self.preferences: list[Preference] = []
        self.rated: dict[str, list[AnswerScores]] = {"base": [], "final": []}
        self.counts: Counter[str] = Counter()  # of the comparisons
        self.calls = 0


async def judged(run: Run, questions: Sequence[Question], base: Measured, final: Measured) -> dict[str, Any] | None:
    """Shares that the final model wins, by criterion, and mean scores; None where the job asks for no judged questions.

    Batch after batch, until the interval of the overall share is as narrow as asked, the questions are used up, or the
    next question might cost more calls than are left.
    """
    settings = run.spec.evaluation
    rows = [
        ComparisonInput(id=q.id, question=q.text, first=before, second=after, reference=q.reference)
        for q, before, after in zip(questions, base.answers, final.answers, strict=True)
    ][: settings.judged_questions]
    seen = Seen()
    if not rows or final.model == base.model or affordable(run, seen.calls) < 1:
        return None
    index, ended = 0, ""
    while not ended:
        done = len(seen.preferences)
        size = min(run.spec.batch_size, affordable(run, seen.calls))
        await hear(run, index, rows[done : done + size], seen)
        index += 1
        ended = ending(run, seen, len(rows))
    asked = rows[: len(seen.preferences)]
    better = better_by_references(run, base, final)
    return {
        "n": len(asked),
        "wanted": len(rows),
        "ended": ended,
        "calls": seen.calls,
        "max_calls": settings.max_judge_calls,
        "criteria": {name: criterion(seen.preferences, name) for name in seen.preferences[0].winners},
        "absolute": absolute(seen) if settings.absolute_scores else None,
        "judge": own_report(run, asked, seen, better and better[: len(asked)]),
    }


def affordable(run: Run, calls: int) -> int:
    """Questions that the rest of the budget pays for even if every reply has to be asked for again. What measuring by the
    judge has taken comes out of the same budget; whether it leaves room for one question is seen when the job is posted."""
    settings = run.spec.evaluation
    if settings.max_judge_calls is None:
        return run.spec.batch_size
    per_question = (4 if settings.absolute_scores else 2) * REPEATED
    return (settings.max_judge_calls - calls - what_measures(run).get("calls", 0)) // per_question


def ending(run: Run, seen: Seen, wanted: int) -> str:
    """Which of the three limits ends the sampling here; empty: none does."""
    overall = mean_interval([POINTS[preference.winners[OVERALL]] for preference in seen.preferences])
    if overall.high - overall.low <= 2 * run.spec.evaluation.judged_margin:
        return "margin_reached"
    if len(seen.preferences) == wanted:
        return "questions_used_up"
    return "" if affordable(run, seen.calls) else "budget_used_up"


async def hear(run: Run, index: int, rows: Sequence[ComparisonInput], seen: Seen) -> None:
    """Have one batch compared, and both of its answers scored where the job asks for it."""
    sides = {"base": [row.first for row in rows], "final": [row.second for row in rows]}
    steps: list[tuple[str, StepKind, Sequence[ComparisonInput] | Sequence[JudgeInput]]] = [
        (f"evaluate/judged/{index}", StepKind.COMPARE, rows)
    ]
    if run.spec.evaluation.absolute_scores:
        for name, answers in sides.items():
            judged_rows = [
                JudgeInput(id=row.id, question=row.question, answer=answer, reference=row.reference)
                for row, answer in zip(rows, answers, strict=True)
            ]
            steps.append((f"evaluate/rated/{name}/{index}", StepKind.RATE, judged_rows))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run.step(key, kind, run.judging(), items)) for key, kind, items in steps]
    compared, *rated = (task.result() for task in tasks)
    seen.preferences += [Preference(**row) for row in compared.rows]
    seen.counts.update(compared.metrics)
    for name, result in zip(sides, rated, strict=False):
        seen.rated[name] += [AnswerScores(**row) for row in result.rows]
    seen.calls += sum(result.metrics["calls"] for result in (compared, *rated))


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


def absolute(seen: Seen) -> dict[str, Any]:
    """Mean scores from 1 to 10 of base and final model and the paired gain, over questions where both were scored."""
    pairs = [
        (base.scores, final.scores)
        for base, final in zip(seen.rated["base"], seen.rated["final"], strict=True)
        if base.parsed and final.parsed
    ]
    criteria = {}
    for name in pairs[0][0] if pairs else ():
        base, final = (
            [(side[name] - LOWEST) / (HIGHEST - LOWEST) for side in sides] for sides in zip(*pairs, strict=True)
        )
        criteria[name] = {
            "base": on_scale(mean_interval(base), LOWEST),
            "final": on_scale(mean_interval(final), LOWEST),
            "gain": on_scale(paired_mean_gain(base, final), 0),
        }
    return {
        "n": len(pairs),
        "unparsed": {name: sum(not item.parsed for item in rated) for name, rated in seen.rated.items()},
        "criteria": criteria,
    }


def on_scale(interval: Interval, zero: int) -> list[float]:
    """[value, low, high] of an interval on [0, 1] (differences: [-1, 1]) in points of the scale from 1 to 10."""
    width = HIGHEST - LOWEST
    return [round(zero + width * value, 4) for value in (interval.value, interval.low, interval.high)]


def better_by_references(run: Run, base: Measured, final: Measured) -> list[str] | None:
    """Per question which answer the primary metric finds better; None where that is the judge's own word."""
    if run.judge_measures:
        return None
    pairs = zip(base.scores[run.metric], final.scores[run.metric], strict=True)
    return ["tie" if before == after else "second" if after > before else "first" for before, after in pairs]


def own_report(run: Run, rows: Sequence[ComparisonInput], seen: Seen, better: Sequence[str] | None) -> dict[str, Any]:
    """The judge's own figures on these questions, and whether it is the teacher."""
    found = quality(rows, seen.preferences, seen.counts, better)
    if run.spec.judge.provider == run.spec.teacher.provider:
        found["warnings"].insert(0, "judge and teacher are the same model: it may favour what it has taught")
    found["warnings"] += warned_scores([rated for side in seen.rated.values() for rated in side])
    return found


def warned_scores(rated: Sequence[AnswerScores]) -> list[str]:
    """What makes absolute scores worthless: most answers got none, or nearly all got the same."""
    scores = Counter(item.scores[OVERALL] for item in rated if item.parsed)
    lost = len(rated) - scores.total()
    if lost > UNPARSED_MOST * len(rated):
        return [f"the judge gave no scores to {lost} of {len(rated)} answers"]
    ((score, times),) = scores.most_common(1) or [(0, 0)]
    if rated and times >= SAME_SCORE * len(rated):
        return [f"the judge scores {times} of {len(rated)} answers {score} of {HIGHEST}: its scores tell nothing"]
    return []
