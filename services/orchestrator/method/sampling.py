"""Several answers of the student to one question: drawn in one request, verified, and what they tell of the student.

What passes, by the first rule that can say (`Drawn.by`):
"grader": judge.grader gives the answer pass_mark or more, where it can grade the question (there is a reference, as a rule);
"agreement": more than a given share of the question's samples are this same answer by the grader's equality (self-consistency,
Wang et al. 2022), of judge.grader or else of the primary metric; "judge": the judge calls it right; "nobody": none passes.
A text that was cut off passes never. No strong model is asked but by the rule "judge".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean
from typing import Any

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.judging import judge_input
from shared.contracts.answer_format import join_answer
from shared.contracts.data import Question
from shared.contracts.grader_kinds import Grader, name_of
from shared.contracts.report import SampleFigures
from shared.contracts.rows import TOO_LONG, Example, Grades, Sampled, Samples, StudentCompletion, Verdict, Votes
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, Sampling, StepKind, StudentParams

EASY, HARD = 0.8, 0.1  # pass rates between which a question teaches most (DART-Math, Tong et al. 2024)


@dataclass(frozen=True)
class Draw:
    """How samples are drawn and what passes without a grader: a share of equal answers, or (None) the judge's word. references:
    the grader grades the records' references as well."""

    model: ModelRef
    n: int
    temperature: float
    agreement: float | None
    references: bool = False


@dataclass(frozen=True)
class Drawn:
    """One question's samples. Each list has a value for each completion. groups: the same number for the same answer, 0 for
    the one with most votes; None: it says nothing to the grader, or was cut off. by: the rule that says what passed. scores: by
    judge.grader; empty where it did not grade. reference_passes: judge.grader passes the record's reference; False where it was not
    asked."""

    question: Question
    completions: Sequence[StudentCompletion]
    passed: Sequence[bool]
    groups: Sequence[int | None]
    by: str
    scores: Sequence[float] = ()
    reference_passes: bool = False

    @property
    def pass_rate(self) -> float:
        return sum(self.passed) / max(len(self.passed), 1)

    def share(self, group: int) -> float:
        """Of all votes."""
        return self.groups.count(group) / max(len(self.groups), 1)

    def texts(self, passed: bool) -> list[str]:
        """Whole completions that passed, or did not, each text once, in order."""
        pairs = zip(self.completions, self.passed, strict=True)
        return list(dict.fromkeys(text_of(c) for c, ok in pairs if ok is passed and is_whole(c)))

    def kept(self, most: int) -> list[str]:
        """The distinct texts to learn: `most`, or one of a question that is nearly always or hardly ever passed."""
        return self.texts(passed=True)[: most if HARD <= self.pass_rate <= EASY else 1]


def each_once(examples: Sequence[Example]) -> list[Example]:
    """Without rows that stand there twice: a sample may be what the student was trained on before."""
    return list({(example.id, example.completion): example for example in examples}.values())


def is_whole(completion: StudentCompletion) -> bool:
    return completion.whole and bool(completion.answer.strip())


def text_of(completion: StudentCompletion) -> str:
    return join_answer(completion.rationale, completion.answer)


async def draw(
    ctx: JobContext, key: StepKey, how: Draw, questions: Sequence[Question], judge_decides: bool = False
) -> list[Drawn]:
    """how.n samples of each question, verified. key: of the round or turn; its role is the first part of the steps' roles."""

    async def one_batch(index: int, batch: Sequence[Question]) -> list[Drawn]:
        at = StepKey(key.phase, key.round, key.role, index)
        sampling = Sampling(max_tokens=ctx.spec.student_tokens, temperature=how.temperature, seed=ctx.seed)
        params = StudentParams(model=how.model, domain=ctx.spec.domain, sampling=sampling, n=how.n)
        drawn = await ctx.step(at.child("answers"), StepKind.SAMPLE, params, [ctx.prompt(q) for q in batch])
        completions = [row.completions for row in drawn.read(Samples)]
        return await verified(ctx, at, how, batch, completions, judge_decides)

    return [one for batch in await ctx.gather(one_batch, questions) for one in batch]


async def verified(
    ctx: JobContext,
    key: StepKey,
    how: Draw,
    questions: Sequence[Question],
    completions: Sequence[Sequence[StudentCompletion]],
    judge_decides: bool,
) -> list[Drawn]:
    """Which samples pass, by which rule. Each distinct answer to a question is looked at once."""
    whole = [list(dict.fromkeys(c.answer for c in several if is_whole(c))) for several in completions]
    references = [[q.reference] if how.references and q.reference else [] for q in questions]
    answers = [list(dict.fromkeys([*given, *own])) for given, own in zip(whole, references, strict=True)]
    scores = await scores_of(ctx, key.child("grades"), questions, answers)
    groups = await groups_of(ctx, key.child("votes"), questions, completions)
    ungraded = [place for place, given in enumerate(scores) if given is None and whole[place]]
    said: dict[int, dict[str, bool]] = {}
    if how.agreement is None and judge_decides and ungraded:
        said = await judged(ctx, key.child("verdicts"), {place: (questions[place], whole[place]) for place in ungraded})
    results: list[Drawn] = []
    for place, question in enumerate(questions):
        several, group, by = completions[place], groups[place], "nobody"
        passed, reward = [False] * len(several), list[float]()
        reference_passes = False
        if (given := scores[place]) is not None:
            by, reward = "grader", [given[c.answer] if is_whole(c) else 0.0 for c in several]
            passed = [
                is_whole(c) and score >= ctx.spec.judge.pass_mark for c, score in zip(several, reward, strict=True)
            ]
            reference_passes = any(given[own] >= ctx.spec.judge.pass_mark for own in references[place])
        elif how.agreement is not None:
            by, least = "agreement", how.agreement * len(several)
            passed = [one is not None and group.count(one) > least for one in group]
        elif judge_decides:
            by, passed = "judge", [is_whole(c) and said[place][c.answer] for c in several]
        results.append(Drawn(question, several, passed, group, by, reward, reference_passes))
    return results


async def scores_of(
    ctx: JobContext, key: StepKey, questions: Sequence[Question], answers: Sequence[Sequence[str]]
) -> list[dict[str, float] | None]:
    """By question the score of each answer by judge.grader; None where it cannot grade, or there is none. Of no answer it can where
    there is a reference."""
    grader = ctx.spec.judge.grader
    rows = [
        judge_input(question, answer) for question, given in zip(questions, answers, strict=True) for answer in given
    ]
    if grader is None:
        return [None] * len(questions)
    params = ctx.judge.model_copy(update={"verify": [] if isinstance(grader, Grader) else [grader]})
    graded = (await ctx.step(key, StepKind.GRADE, params, rows)).read(Grades) if rows else []
    scores = iter(row.scores.get(name_of(grader)) for row in graded)
    by_question = [{answer: next(scores) for answer in given} for given in answers]
    return [
        None
        if None in given.values() or not (given or question.reference)
        else {answer: score or 0.0 for answer, score in given.items()}
        for question, given in zip(questions, by_question, strict=True)
    ]


async def groups_of(
    ctx: JobContext, key: StepKey, questions: Sequence[Question], completions: Sequence[Sequence[StudentCompletion]]
) -> list[list[int | None]]:
    """By question the group of each completion, whole ones only."""
    places = [[place for place, c in enumerate(several) if is_whole(c)] for several in completions]
    asked = [row for row in range(len(questions)) if places[row]]
    rows = [
        Sampled(id=questions[row].id, texts=[completions[row][place].answer for place in places[row]]) for row in asked
    ]
    groups: list[list[int | None]] = [[None] * len(several) for several in completions]
    if rows:
        voted = await ctx.step(key, StepKind.AGREE, ctx.agreement, rows)
        for row, votes in zip(asked, voted.read(Votes), strict=True):
            for number, group in enumerate(votes.groups):
                for member in group.members:
                    groups[row][places[row][member]] = number
    return groups


async def judged(
    ctx: JobContext, key: StepKey, asked: dict[int, tuple[Question, Sequence[str]]]
) -> dict[int, dict[str, bool]]:
    """By place the judge's word on each answer; one without a verdict does not pass."""
    rows = [
        judge_input(question, answer, want_critique=False) for question, given in asked.values() for answer in given
    ]
    reviewed = await ctx.step(key, StepKind.REVIEW, ctx.judge.model_copy(update={"grader": None}), rows)
    passed = iter(verdict.passed for verdict in reviewed.read(Verdict))
    return {place: {answer: next(passed) for answer in given} for place, (_, given) in asked.items()}


def pass_at(n: int, passed: int, k: int) -> float:
    """The unbiased estimate from n samples, of which `passed` pass, that one of k passes (Chen et al. 2021, arXiv 2107.03374,
    section 2.1): 1 - C(n - passed, k) / C(n, k). k is at most n."""
    return 1.0 - comb(n - passed, k) / comb(n, k)


def figures_of(drawn: Sequence[Drawn], kept: int = 0) -> SampleFigures:
    """Of the questions that fit into the student's context. Pass rates count those that a grader or the judge verified; where there is
    none, what passed is no more than agreed on."""
    answered = [one for one in drawn if any(c.finish_reason != TOO_LONG for c in one.completions)]
    verified = [one for one in answered if one.by in ("grader", "judge")]
    n = min((len(one.completions) for one in answered), default=0)
    ks = sorted({k for k in (1, 2, 4, 8, 16, 32, 64) if k < n} | ({n} if n else set()))
    return SampleFigures(
        questions=len(answered),
        verified=len(verified),
        samples=n,
        pass_at={
            str(k): round(fmean(pass_at(len(one.passed), sum(one.passed), k) for one in verified), 4)
            for k in (ks if verified else ())
        },
        agreed=round(fmean(one.share(0) for one in answered), 4) if answered else None,
        distinct=round(fmean(len({*one.groups} - {None}) for one in answered), 2) if answered else None,
        cut_off=sum(c.cut_off for one in answered for c in one.completions),
        too_long=len(drawn) - len(answered),
        kept=kept,
        reward=_mean([score for one in answered for score in one.scores]),
    )


def _mean(scores: Sequence[float]) -> float | None:
    return round(fmean(scores), 4) if scores else None


async def tell(ctx: JobContext, name: str, figures: SampleFigures, **data: Any) -> None:
    """An event with the figures, and a warning where the gate says that there is little to select."""
    await ctx.emit(f"{name}: {figures.words}", type="metrics", sampled=figures.model_dump(mode="json"), **data)
    if figures.gate_closed:
        await ctx.emit(f"{name}: {figures.gate_words}", level="warn")
