"""The final model against the base in the judge's eyes (paper section 4): five criteria pairwise, each pair in both
orders, and a score from 1 to 10 for each answer.

The judge is a measuring device of unknown quality, so its own figures stand beside what it says, and it decides nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.orchestrator.durable import batches
from services.orchestrator.method.context import Run
from shared.contracts.data import Question, Split
from shared.contracts.distillation import JUDGE, Grader, Guidance, Phase
from shared.contracts.rows import (
    AnswerScores,
    ComparisonInput,
    Grades,
    JudgeInput,
    Preference,
    TeacherResponse,
)
from shared.contracts.steps import StepKind
from shared.evaluation.judge_quality import LABELS_LEAST, UNPARSED_MOST, agreement, quality
from shared.evaluation.statistics import Interval, mean_interval, paired_mean_gain

OVERALL = "overall"
POINTS = {"first": 0.0, "tie": 0.5, "second": 1.0}
UNMEASURED = "nobody has held this judge against human labels; POST /v1/labels takes some"
RESTS = {
    "measuring": "no model is promoted by this job: dev and test have hardly any references, and the judge is not asked",
    "guidance": "which way of asking the teacher is better is undecided: no references compare the answers, "
    "and the judge is not asked",
    "iterate": "nothing passed in phase 2 by this judge's word: where no grader decides, questions were not tried but dropped, "
    "or answered by the teacher (iterate.on_failure)",
    "evaluation": "take the judge's comparison of the final model with the base, and its scores, for nothing",
}
LOWEST, HIGHEST = 1, 10  # of an absolute score
SAME_SCORE = 0.9  # share of answers with one and the same score from which scores are warned of
REPEATED = 2  # a reply that cannot be read is asked for once more


async def grade(
    run: Run, key: str, questions: Sequence[Question], answers: Sequence[str], grader: Grader
) -> list[float]:
    """Scores in [0, 1] by one grader; every question has a reference."""
    rows = [
        JudgeInput(id=q.id, question=q.text, answer=answer, reference=q.reference)
        for q, answer in zip(questions, answers, strict=True)
    ]
    graded = await run.step(key, StepKind.GRADE, run.judging(), rows)
    return [Grades(**row).scores[grader] for row in graded.rows]


async def below_pass_mark(
    run: Run, key: str, questions: Sequence[Question], lessons: Sequence[TeacherResponse]
) -> dict[str, float]:
    """Scores, by id, of usable answers that the job's grader would not let a student pass with; where it names none, or a
    question has no reference, nobody can say."""
    grader = run.spec.judge.grader
    held = [(q, a) for q, a in zip(questions, lessons, strict=True) if a.outcome == "ok" and q.reference]
    if grader is None or not held:
        return {}
    scores = await grade(run, key, [q for q, _ in held], [lesson.answer for _, lesson in held], grader)
    return {q.id: score for (q, _), score in zip(held, scores, strict=True) if score < run.spec.judge.pass_mark}


async def better(
    run: Run, key: str, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]
) -> list[tuple[float, float]]:
    """Per question a score in [0, 1] for each of two answers: by the primary metric where all have references, else
    by the judge (won 1 : 0, a tie 0.5 : 0.5)."""
    if all(q.reference for q in questions):
        metric = run.spec.primary_metric
        scores = [
            await grade(run, f"{key}/{name}", questions, side, metric) for name, side in (("a", first), ("b", second))
        ]
        return list(zip(*scores, strict=True))
    return [(1 - point, point) for point in await judged_points(run, f"{key}/preferences", questions, first, second)]


async def judged_points(
    run: Run, key: str, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]
) -> list[float]:
    """Per question 1 where the judge prefers the second answer, 0 where the first, 0.5 for a tie; it sees each pair in both
    orders. All ties, and nobody is asked, when the labels say that this judge is no better than chance."""
    if not run.judge_decides:
        return [POINTS["tie"]] * len(questions)
    rows = [
        ComparisonInput(id=q.id, question=q.text, first=a, second=b, reference=q.reference)
        for q, a, b in zip(questions, first, second, strict=True)
    ]
    compared = await run.step(key, StepKind.COMPARE, run.judging(), rows)
    return [POINTS[Preference(**row).winners[OVERALL]] for row in compared.rows]


async def hear_labels(run: Run) -> None:
    """Have the judge compare the project's labelled pairs, in both orders, if anything in this job rests on it.

    Leaves the figures in run.judge and says in run.judge_decides whether its word counts.
    """
    places = rests_on_the_judge(run)
    labels = run.labels() if places else []
    run.judge = {"rests_on_it": places, "labels": None, "decides": True, "warnings": []}
    if not labels:
        run.judge["warnings"] = [UNMEASURED] if places else []
        return
    run.expect(StepKind.COMPARE, len(labels))
    rows = [
        ComparisonInput(id=row.id, question=row.question, first=row.first, second=row.second, reference=row.reference)
        for row in labels
    ]
    seen: list[Preference] = []
    counts: Counter[str] = Counter()
    for index, batch in enumerate(batches(rows, run.spec.batch_size)):
        compared = await run.step(f"evaluate/labels/{index}", StepKind.COMPARE, run.judging(), batch)
        seen += [Preference(**row) for row in compared.rows]
        counts.update(compared.metrics)
    preferred = [row.preferred for row in labels]
    found = quality(rows, seen, counts, preferred) | agreement(seen, preferred)
    run.judge_decides = found["better_than_chance"] is not False
    run.judge |= {"labels": found, "decides": run.judge_decides, "warnings": warnings(found, places)}
    value, low, high = found["agreement"]
    await run.say(
        f"the judge agrees with {value:.0%} [{low:.0%}, {high:.0%}] of {len(labels)} labels, chance is {found['chance']:.0%}"
        + ("" if run.judge_decides else ": it decides nothing"),
        type="metrics",
        level="info" if run.judge_decides else "warn",
        agreement=found["agreement"],
        kappa=found["kappa"],
    )


def rests_on_the_judge(run: Run) -> list[str]:
    """Where this job takes the judge's word: measuring (students, without references), guidance, iterate, evaluation."""
    spec = run.spec
    bare = {phase: any(not question.reference for question in run.shard(phase)) for phase in spec.phases}
    places = ["measuring"] if run.judge_measures else []
    both_ways = spec.distill.answers == "teacher" and spec.guidance in (Guidance.AUTO, Guidance.BEST)
    if both_ways and bare.get(Phase.DISTILL):
        places.append("guidance")
    if Phase.ITERATE in bare and (spec.judge.grader is None or bare[Phase.ITERATE]):
        places.append("iterate")
    if spec.evaluation.judged_questions:
        places.append("evaluation")
    return places


def warnings(found: dict[str, Any], places: list[str]) -> list[str]:
    """In words: what the labels say against the judge, and then what rests on it."""
    value, level = found["agreement"][0], found["chance"]
    if found["better_than_chance"] is None:
        few = f"{found['n']} labels are too few to tell whether the judge is better than chance; give {LABELS_LEAST} or more"
        return [few, *found["warnings"]]
    if found["better_than_chance"]:
        return found["warnings"]
    against = f"the judge is no better than chance on the labels ({value:.0%} agree, chance is {level:.0%}): it decides nothing"
    return [against, *(RESTS[place] for place in places), *found["warnings"]]


async def say_what_measures(run: Run) -> None:
    """An event where questions without a reference change how students are measured."""
    held = (Split.DEV, Split.TEST)
    bare = {split: sum(not q.reference for q in run.split(split)) for split in held}
    if run.judge_measures:
        message = (
            "dev or test has hardly any references, so the judge decides: it compares each student's answers with the "
            "base's, in both orders. Give references, or at least labels for the judge"
        )
    else:
        counts = [
            f"{bare[split]} of {len(run.split(split))} questions of {split.value}" for split in held if bare[split]
        ]
        message = f"{' and '.join(counts)} have no reference; students are not measured on them"
    if any(bare.values()):
        await run.say(message, level="warn")


def what_measures(run: Run) -> dict[str, Any]:
    """For the report: who decides, how many questions of each split have no reference, and, where the judge decides, how
    its comparisons went."""
    bare = {split.value: sum(not q.reference for q in run.split(split)) for split in Split}
    found: dict[str, Any] = {"by": JUDGE if run.judge_measures else "references", "without_reference": bare}
    if run.judge_measures:
        figures = [
            figures
            for key, figures in run.figures.items()
            if "/preferences/" in key and key.startswith(("evaluate/dev/", "evaluate/test/"))
        ]
        found |= {
            name: sum(step.get(counted, 0) for step in figures)
            for name, counted in (
                ("compared", "n"),
                ("calls", "calls"),
                ("unparsed", "unparsed"),
                ("flipped", "flipped"),
            )
        }
    return found


class Seen:
    """What the judge has said so far, question by question, and the calls it took."""

    def __init__(self) -> None:
        self.preferences: list[Preference] = []
        self.rated: dict[str, list[AnswerScores]] = {"base": [], "final": []}
        self.counts: Counter[str] = Counter()  # of the comparisons
        self.calls = 0


async def judged(
    run: Run, questions: Sequence[Question], base: Sequence[str], final: Sequence[str], better: Sequence[str] | None
) -> dict[str, Any] | None:
    """Shares that the final model wins, by criterion, and mean scores; None where the job asks for no judged questions.

    Batch after batch, until the interval of the overall share is as narrow as asked, the questions are used up, or the
    next question might cost more calls than are left.
    """
    settings = run.spec.evaluation
    rows = [
        ComparisonInput(id=q.id, question=q.text, first=before, second=after, reference=q.reference)
        for q, before, after in zip(questions, base, final, strict=True)
    ][: settings.judged_questions]
    seen = Seen()
    if not rows or affordable(run, seen.calls) < 1:
        return None
    index, ended = 0, ""
    while not ended:
        done = len(seen.preferences)
        size = min(run.spec.batch_size, affordable(run, seen.calls))
        await hear(run, index, rows[done : done + size], seen)
        index += 1
        ended = ending(run, seen, len(rows))
    asked = rows[: len(seen.preferences)]
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
        "share": mean_interval(points).rounded(),
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
