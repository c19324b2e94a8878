"""Asking judges and graders: which of two answers is better, what human preferences say of the judge itself, and the final
model against the base (paper section 4): five criteria pairwise in both orders, and a score from 1 to 10 for each answer.

The judge is a measuring device of unknown quality: its own figures stand beside its verdicts.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from services.orchestrator.method.context import JobContext
from shared.contracts.data import Question, Split
from shared.contracts.errors import FatalError
from shared.contracts.grader_kinds import Grader, VerifyingGrader, name_of
from shared.contracts.report import (
    AbsoluteScore,
    AbsoluteScores,
    Criterion,
    JudgedComparison,
    JudgeReport,
    LabelAgreement,
    Triple,
)
from shared.contracts.rows import (
    OVERALL,
    AnswerScores,
    ComparisonInput,
    Grades,
    JudgeInput,
    Preference,
    TeacherResponse,
    Verdict,
)
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepResult
from shared.evaluation.judge_quality import LABELS_LEAST, UNPARSED_MOST, agreement, quality
from shared.evaluation.statistics import Interval, mean_interval, paired_mean_gain
from shared.jobs.records import LabelRecord

POINTS = {"first": 0.0, "tie": 0.5, "second": 1.0}
UNMEASURED = "no human preferences measure this judge; POST /v1/labels takes them"
CONSEQUENCES = {
    "measuring": "this job promotes no model: dev and test have too few references, and the judge is not asked",
    "guidance": "which way of asking the teacher is better is undecided: no references compare the answers, "
    "and the judge is not asked",
    "iterate": "the judge passes nothing in phase 2: where no grader decides, questions are not tried but dropped, "
    "or answered by the teacher (iterate.on_failure)",
    "evaluation": "ignore the judge's comparison of the final model with the base, and its scores",
}
UNREADABLE_MOST = 0.75  # share of replies without a verdict from which the pilot ends the job
UNFIT_JUDGE = {  # what most replies had -> in words, and what to do
    "cut_off": ("ended at their limit of tokens", "raise judge.max_tokens (a reasoning model also thinks within it)"),
    "empty": (
        "held no text",
        "raise judge.max_tokens (a reasoning model also thinks within it), or name another provider",
    ),
    "": ("hold no JSON object of the form asked for", "name a provider that keeps to a form"),
}
LOWEST, HIGHEST = 1, 10  # of an absolute score
SAME_SCORE = 0.9  # share of answers with the same score above which the report warns
REPEATED = 2  # a reply that cannot be read is asked for once more


def judge_input(
    question: Question, answer: str, rationale: str | None = None, want_critique: bool = True
) -> JudgeInput:
    return JudgeInput(
        id=question.id,
        question=question.text,
        answer=answer,
        rationale=rationale,
        reference=question.reference,
        want_critique=want_critique,
        item=question.item,
        teacher_context=question.teacher_context,
    )


def grader_input(question: Question, answer: str) -> JudgeInput:
    """Graders need no material."""
    return judge_input(question, answer).model_copy(update={"teacher_context": None})


def comparison(question: Question, first: str, second: str) -> ComparisonInput:
    return ComparisonInput(
        id=question.id,
        question=question.text,
        first=first,
        second=second,
        reference=question.reference,
        teacher_context=question.teacher_context,
    )


async def grade(
    ctx: JobContext,
    key: StepKey,
    questions: Sequence[Question],
    answers: Sequence[str],
    grader: Grader | VerifyingGrader,
) -> list[float]:
    """Scores in [0, 1] by one grader; every question has a reference, and one that cannot be graded against gives 0."""
    rows = [grader_input(question, answer) for question, answer in zip(questions, answers, strict=True)]
    asking = ctx.judge.model_copy(update={"material": [], "verify": ctx.graders_of([grader])})
    graded = await ctx.step(key, StepKind.GRADE, asking, rows)
    return [row.scores.get(name_of(grader), 0.0) for row in graded.read(Grades)]


async def below_pass_threshold(
    ctx: JobContext, key: StepKey, questions: Sequence[Question], responses: Sequence[TeacherResponse]
) -> dict[str, float]:
    """Scores, by id, of usable responses that the job's grader would not let a student pass with. Empty without a grader;
    questions without a reference are left out."""
    grader, threshold = ctx.spec.judge.grader, ctx.spec.judge.pass_mark
    gradable = [(q, r) for q, r in zip(questions, responses, strict=True) if r.outcome == "ok" and q.reference]
    if grader is None or not gradable:
        return {}
    scores = await grade(ctx, key, [q for q, _ in gradable], [response.answer for _, response in gradable], grader)
    return {q.id: score for (q, _), score in zip(gradable, scores, strict=True) if score < threshold}


async def try_judge(ctx: JobContext, questions: Sequence[Question], responses: Sequence[TeacherResponse]) -> None:
    """Have the judge decide on the teacher's first responses. Raises FatalError `judge_unfit` when nearly none of its replies
    can be read. The verdicts themselves are not used."""
    rows = [
        judge_input(q.model_copy(update={"reference": None}) if ctx.spec.judge.grader else q, response.answer)
        for q, response in zip(questions, responses, strict=True)
        if response.outcome == "ok"
    ]
    tried = await ctx.step(StepKey("pilot", role="judge/verdicts"), StepKind.REVIEW, ctx.judge, rows)
    verdicts = tried.read(Verdict)
    unread = sum(verdict.by == "unparsed" for verdict in verdicts)
    if unread < UNREADABLE_MOST * len(verdicts):
        return
    counts = Counter({name: tried.metrics.get(name, 0) for name in ("cut_off", "empty")})
    cause, remedy = UNFIT_JUDGE.get(counts.most_common(1)[0][0] if counts.total() else "", UNFIT_JUDGE[""])
    raise FatalError(
        f"the judge is not fit for this job: of its replies to the first {len(verdicts)} answers {unread} give no verdict, "
        f"though each was asked for twice; most {cause}. Now judge.max_tokens is {ctx.spec.judge.max_tokens} and "
        f"judge.provider is {ctx.spec.judge.provider!r}: {remedy}",
        param="distillation.judge.max_tokens" if "max_tokens" in remedy else "distillation.judge.provider",
        code="judge_unfit",
    )


async def better(
    ctx: JobContext,
    judge_decides: bool,
    key: StepKey,
    questions: Sequence[Question],
    first: Sequence[str],
    second: Sequence[str],
) -> list[tuple[float, float]]:
    """Per question a score in [0, 1] for each of two answers: by the primary metric where all have references, else
    by the judge (won 1 : 0, a tie 0.5 : 0.5)."""
    if all(q.reference for q in questions):
        metric = ctx.spec.primary_metric
        scores = [
            await grade(ctx, key.child(name), questions, side, metric) for name, side in (("a", first), ("b", second))
        ]
        return list(zip(*scores, strict=True))
    points = await compare(ctx, judge_decides, key.child("preferences"), questions, first, second)
    return [(1 - point, point) for point in points]


async def compare(
    ctx: JobContext,
    judge_decides: bool,
    key: StepKey,
    questions: Sequence[Question],
    first: Sequence[str],
    second: Sequence[str],
) -> list[float]:
    """Per question 1 where the judge prefers the second answer, 0 where the first, 0.5 for a tie; it reads each pair in both
    orders. All ties, without asking, where the judge is no better than chance."""
    if not judge_decides:
        return [POINTS["tie"]] * len(questions)
    rows = [comparison(q, a, b) for q, a, b in zip(questions, first, second, strict=True)]
    compared = await ctx.step(key, StepKind.COMPARE, ctx.judge, rows)
    return [POINTS[row.winners[OVERALL]] for row in compared.read(Preference)]


# What the judge decides, and what human preferences say of it


async def announce_measure(ctx: JobContext) -> None:
    """An event where questions without a reference change how students are measured."""
    bare = {split: sum(not q.reference for q in ctx.splits[split]) for split in (Split.DEV, Split.TEST)}
    if ctx.judge_measures:
        message = (
            "dev or test has hardly any references, so the judge decides: it compares the answers of each student with those of the one it "
            "was trained from, in both orders. Give references, or at least labels for the judge"
        )
    else:
        counts = [
            f"{missing} of {len(ctx.splits[split])} questions of {split.value}"
            for split, missing in bare.items()
            if missing
        ]
        message = f"{' and '.join(counts)} have no reference; students are not measured on them"
    if any(bare.values()):
        await ctx.emit(message, level="warn")


async def calibrate(ctx: JobContext, uses: Sequence[str], preferences: Sequence[LabelRecord]) -> JudgeReport:
    """Have the judge compare the project's human preferences, in both orders.

    decides: False where it is no better than chance on them. Then pilot and `guidance: best` treat its comparisons as
    undecided, it passes nothing in phase 2, and it is not asked for either.
    """
    if not preferences:
        warnings = [UNMEASURED] if uses else []
        return JudgeReport(rests_on_it=list(uses), labels=None, decides=True, warnings=warnings)
    ctx.expect(StepKind.COMPARE, len(preferences))
    rows = [
        ComparisonInput(id=row.id, question=row.question, first=row.first, second=row.second, reference=row.reference)
        for row in preferences
    ]

    async def compare_batch(index: int, batch: Sequence[ComparisonInput]) -> StepResult:
        return await ctx.step(StepKey("evaluate", role="labels", batch=index), StepKind.COMPARE, ctx.judge, batch)

    compared = await ctx.gather(compare_batch, rows)
    judged = [preference for result in compared for preference in result.read(Preference)]
    counts = sum((Counter(result.metrics) for result in compared), Counter())
    preferred = [row.preferred for row in preferences]
    figures = LabelAgreement(**dict(quality(rows, judged, counts, preferred)), **dict(agreement(judged, preferred)))
    decides = figures.better_than_chance is not False
    value, low, high = figures.agreement
    await ctx.emit(
        f"the judge agrees with {value:.0%} [{low:.0%}, {high:.0%}] of {len(preferences)} labels, "
        f"chance is {figures.chance:.0%}" + ("" if decides else ": it decides nothing"),
        type="metrics",
        level="info" if decides else "warn",
        agreement=figures.agreement,
        kappa=figures.kappa,
    )
    warnings = calibration_warnings(figures, uses)
    return JudgeReport(rests_on_it=list(uses), labels=figures, decides=decides, warnings=warnings)


def calibration_warnings(figures: LabelAgreement, uses: Sequence[str]) -> list[str]:
    """What human preferences say against the judge, and what of the job relies on it."""
    if figures.better_than_chance:
        return figures.warnings
    if figures.better_than_chance is None:
        few = f"{figures.n} labels are too few to tell whether the judge is better than chance; give {LABELS_LEAST} or more"
        return [few, *figures.warnings]
    against = (
        f"the judge is no better than chance on the labels ({figures.agreement.value:.0%} agree, "
        f"chance is {figures.chance:.0%}): it decides nothing"
    )
    return [against, *(CONSEQUENCES[use] for use in uses), *figures.warnings]


def comparisons_of_students(figures: Mapping[StepKey, Mapping[str, Any]]) -> dict[str, int]:
    """How the comparisons went that measured students, summed over the steps' figures."""
    steps = [counts for key, counts in figures.items() if key.action == "preferences" and key.split is not None]
    names = {"compared": "n", "calls": "calls", "unparsed": "unparsed", "flipped": "flipped"}
    return {name: sum(counts.get(counted, 0) for counts in steps) for name, counted in names.items()}


# The final model against the base


async def judge_final_model(
    ctx: JobContext,
    questions: Sequence[Question],
    base: Sequence[str],
    final: Sequence[str],
    by_references: Sequence[str] | None,
    calls_before: int,
) -> JudgedComparison | None:
    """Shares that the final model's answers win, by criterion, and mean scores; None where the job asks for no judged
    questions, or its budget pays for none.

    Batch after batch, until the interval of the overall share is as narrow as asked, the questions are used up, or the
    next question might cost more calls than are left. by_references: per question the better answer by the primary metric. calls_before: those that measuring took from the same
    budget.
    """
    settings = ctx.spec.evaluation
    rows = [comparison(q, before, after) for q, before, after in zip(questions, base, final, strict=True)][
        : settings.judged_questions
    ]

    preferences: list[Preference] = []
    scores: dict[str, list[AnswerScores]] = {"base": [], "final": []}
    counts: Counter[str] = Counter()
    calls = 0

    def affordable() -> int:
        """Questions that the rest of the budget pays for even if every reply is asked for again."""
        if settings.max_judge_calls is None:
            return ctx.spec.batch_size
        per_question = (4 if settings.absolute_scores else 2) * REPEATED
        return (settings.max_judge_calls - calls - calls_before) // per_question

    if not rows or affordable() < 1:
        return None
    index, ended = 0, None
    while ended is None:
        done = len(preferences)
        size = min(ctx.spec.batch_size, affordable())
        judged, *scored = await judge_batch(ctx, index, rows[done : done + size])
        preferences += judged.read(Preference)
        counts.update(judged.metrics)
        for side, result in zip(scores.values(), scored, strict=False):
            side += result.read(AnswerScores)
        calls += sum(result.metrics["calls"] for result in (judged, *scored))
        index += 1
        overall = mean_interval([POINTS[preference.winners[OVERALL]] for preference in preferences])
        if overall.high - overall.low <= 2 * settings.judged_margin:
            ended = "margin_reached"
        elif len(preferences) == len(rows):
            ended = "questions_used_up"
        elif not affordable():
            ended = "budget_used_up"
    compared = rows[: len(preferences)]
    figures = quality(compared, preferences, counts, by_references and by_references[: len(compared)])
    warnings = [*figures.warnings, *score_warnings([row for side in scores.values() for row in side])]
    if ctx.spec.judge.provider == ctx.spec.teacher.provider:
        warnings = ["judge and teacher are the same model: it may favour what it has taught", *warnings]
    return JudgedComparison(
        n=len(compared),
        wanted=len(rows),
        ended=ended,
        calls=calls,
        max_calls=settings.max_judge_calls,
        criteria={name: criterion(preferences, name) for name in preferences[0].winners},
        absolute=absolute(scores) if settings.absolute_scores else None,
        judge=figures.model_copy(update={"warnings": warnings}),
    )


async def judge_batch(ctx: JobContext, index: int, rows: Sequence[ComparisonInput]) -> list[StepResult]:
    """One batch compared and, where the job asks for scores, both of its answers scored: those of the base, then the final
    model's."""
    sides = {"base": [row.first for row in rows], "final": [row.second for row in rows]}
    steps: list[tuple[StepKey, StepKind, Sequence[ComparisonInput] | Sequence[JudgeInput]]] = [
        (StepKey("evaluate", role="judged", batch=index), StepKind.COMPARE, rows)
    ]
    if ctx.spec.evaluation.absolute_scores:
        for name, answers in sides.items():
            to_score = [
                JudgeInput(answer=answer, **row.model_dump(include={"id", "question", "reference", "teacher_context"}))
                for row, answer in zip(rows, answers, strict=True)
            ]
            steps.append((StepKey("evaluate", role=f"rated/{name}", batch=index), StepKind.RATE, to_score))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.step(key, kind, ctx.judge, items)) for key, kind, items in steps]
    return [task.result() for task in tasks]


def criterion(preferences: Sequence[Preference], name: str) -> Criterion:
    """How often the final model won, tied and lost; share: ties split, with its 95 % interval."""
    winners = [preference.winners[name] for preference in preferences]
    return Criterion(
        win=winners.count("second"),
        tie=winners.count("tie"),
        loss=winners.count("first"),
        share=mean_interval([POINTS[winner] for winner in winners]).rounded(),
    )


def absolute(scores: Mapping[str, Sequence[AnswerScores]]) -> AbsoluteScores:
    """Mean scores from 1 to 10 of base and final model and the paired gain, over questions where both were scored."""
    pairs = [
        (base.scores, final.scores)
        for base, final in zip(scores["base"], scores["final"], strict=True)
        if base.parsed and final.parsed
    ]
    criteria = {}
    for name in pairs[0][0] if pairs else ():
        base, final = (
            [(side[name] - LOWEST) / (HIGHEST - LOWEST) for side in sides] for sides in zip(*pairs, strict=True)
        )
        criteria[name] = AbsoluteScore(
            base=on_scale(mean_interval(base), LOWEST),
            final=on_scale(mean_interval(final), LOWEST),
            gain=on_scale(paired_mean_gain(base, final), 0),
        )
    unparsed = {name: sum(not row.parsed for row in side) for name, side in scores.items()}
    return AbsoluteScores(n=len(pairs), unparsed=unparsed, criteria=criteria)


def on_scale(interval: Interval, zero: int) -> Triple:
    """An interval on [0, 1] (differences: [-1, 1]) in points of the scale from 1 to 10."""
    width = HIGHEST - LOWEST
    return Triple(*(round(zero + width * value, 4) for value in (interval.value, interval.low, interval.high)))


def score_warnings(rows: Sequence[AnswerScores]) -> list[str]:
    """What makes absolute scores worthless: most answers got none, or nearly all got the same."""
    scores = Counter(row.scores[OVERALL] for row in rows if row.parsed)
    lost = len(rows) - scores.total()
    if lost > UNPARSED_MOST * len(rows):
        return [f"the judge gave no scores to {lost} of {len(rows)} answers"]
    ((score, times),) = scores.most_common(1) or [(0, 0)]
    if rows and times >= SAME_SCORE * len(rows):
        return [f"the judge scores {times} of {len(rows)} answers {score} of {HIGHEST}: its scores tell nothing"]
    return []
