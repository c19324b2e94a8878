"""The plan of a job: its stages and what each asks of the workers, as data. Progress, estimate and checks read it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from shared.contracts.data import Split
from shared.contracts.distillation import Baseline, Distillation, Guidance, Phase
from shared.contracts.grader_kinds import (
    Grader,
    LabelModelGrader,
    ScoreModelGrader,
    VerifyingGrader,
    models_of,
)
from shared.contracts.step_kinds import cost
from shared.contracts.steps import Queue, StepKind
from shared.plan.allocation import allocate, rounds_of, turn_samples

PILOT, EVALUATE = "pilot", "evaluate"  # the stages beside the phases
ORDERS = 2  # a comparison is asked in both orders
JUDGE_GATE = 4  # so many answers are judged in the pilot before the job relies on the judge
REPAIRED = 2  # a reply that is no verdict is asked for once more
WRITTEN = 2  # tokens of a strong model at most per token that the student wrote
LOCAL = (StepKind.GRADE, StepKind.AGREE)  # of the judge's queue, but no strong model is asked
LATER_TRY = 0.6  # share of the questions that each further try of phase 2 is expected to take
KEPT = 0.4  # share of the samples that phase 2 may keep of a question that are expected to pass and to differ
DIFFERING = 0.5  # share of the questions whose two decodings are expected to differ in phase 3

PlannedRows = Mapping[tuple[str, StepKind], float]  # rows by stage and kind, repeats (epochs, tries, students) counted


class JudgeUse(StrEnum):
    """What of a job relies on the judge."""

    MEASURING = "measuring"  # students are compared with one another, for want of references
    GUIDANCE = "guidance"  # which way of asking the teacher is better
    ITERATE = "iterate"  # what passes in phase 2
    EVALUATION = "evaluation"  # the final model against the base


@dataclass(frozen=True)
class Calls:
    """So many rows, each asked about so often."""

    rows: int = 0
    each: int = 1

    @property
    def total(self) -> int:
        return self.rows * self.each


@dataclass(frozen=True)
class PlannedStep:
    """Steps of one kind in a stage.

    rows: expected, repeats counted. least, most: calls to a strong model; on the course on which every reply can be used at
    once and every completion passes, and at the most. about: the rows that these calls are about. guided: the teacher follows
    a guideline. written: tokens at most that models wrote into the judge's input. use: what relies on this judge.
    alternative: the pilot chooses between this step and its neighbour. grader: whose model is asked, of graders that ask one.
    """

    kind: StepKind
    rows: float = 0
    least: Calls = Calls()
    most: Calls = Calls()
    about: Phase | Split = Phase.DISTILL
    guided: bool = False
    written: int = 0
    use: JudgeUse | None = None
    alternative: bool = False
    grader: ScoreModelGrader | LabelModelGrader | None = None

    @property
    def asks_strong_model(self) -> bool:
        return self.grader is not None or (self.kind.queue in (Queue.STRONG, Queue.JUDGE) and self.kind not in LOCAL)


@dataclass(frozen=True)
class Stage:
    """Part of a job: the pilot, a phase, or the evaluation, which begins on dev before the first phase ends."""

    name: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True)
class Pool:
    """Train questions that a phase draws from, and how many of them have no reference."""

    rows: int
    without_reference: int = 0

    def without_reference_of(self, count: int) -> tuple[int, int]:
        """How many of `count` rows drawn from here have none: at least, at most."""
        bare = self.without_reference
        return max(0, count - (self.rows - bare)), min(count, bare)


@dataclass(frozen=True)
class Sizes:
    """What a plan needs to know of the data.

    questions: how many train questions each phase takes, and pools: out of which. dev, test: questions that students are
    measured on. references: whether train has any, without which there are no baselines. judge_measures: students are compared
    with one another by the judge. choice: so many of dev's are there to choose among rounds and turns; 0: dev is not parted; None: not
    known yet, and then the plan has the most that it can be. judge_decides: False once human preferences show that it is no better than chance.
    """

    questions: Mapping[Phase, int]
    pools: Mapping[Phase, Pool]
    dev: int
    test: int
    references: bool = True
    judge_measures: bool = False
    judge_decides: bool = True
    choice: int | None = None

    @classmethod
    def of_splits(
        cls, spec: Distillation, splits: Mapping[Split, int], without_reference: int = 0, judge_measures: bool = False
    ) -> "Sizes":
        """splits: rows of each. without_reference: of train."""
        train = splits[Split.TRAIN]
        questions = allocate(train, spec)
        pools = dict.fromkeys(questions, Pool(train, without_reference))
        return cls(
            questions,
            pools,
            splits[Split.DEV],
            splits[Split.TEST],
            references=without_reference < train,
            judge_measures=judge_measures,
        )


@dataclass(frozen=True)
class PilotOutcome:
    """guidance: how phase 1 asks the teacher. usable: unguided answers of the pilot that phase 1 gets again without a call."""

    guidance: Guidance
    usable: int


@dataclass(frozen=True)
class Plan:
    """The stages of a job, in order."""

    stages: tuple[Stage, ...]
    questions: Mapping[Phase, int] = field(default_factory=dict)

    def rows(self) -> PlannedRows:
        counts: dict[tuple[str, StepKind], float] = {}
        for stage in self.stages:
            for step in stage.steps:
                name = (stage.name, step.kind)
                counts[name] = counts.get(name, 0) + step.rows
        return {name: count for name, count in counts.items() if count}

    def judge_uses(self) -> list[JudgeUse]:
        """What relies on the judge, whether or not the judge turns out to be better than chance."""
        return judge_uses(self.stages)

    def most_calls(self, use: JudgeUse) -> int:
        return sum(step.most.total for stage in self.stages for step in stage.steps if step.use is use)


def weighted(rows: PlannedRows) -> float:
    """Relative seconds of a job's rows."""
    return sum(cost(kind, count) for (_, kind), count in rows.items())


def make_plan(spec: Distillation, sizes: Sizes, pilot: PilotOutcome | None = None) -> Plan:
    """pilot: what it has settled, once it is over."""
    stages: list[Stage] = []
    if Phase.DISTILL in spec.phases:
        stages.append(Stage(Phase.DISTILL.value, tuple(_distill(spec, sizes, pilot))))
    if Phase.ITERATE in spec.phases:
        stages.append(Stage(Phase.ITERATE.value, tuple(_iterate(spec, sizes))))
    if Phase.EVOLVE in spec.phases:
        stages.append(Stage(Phase.EVOLVE.value, tuple(_evolve(spec, sizes))))
    stages.append(Stage(EVALUATE, tuple(_evaluate(spec, sizes))))
    if PILOT in spec.stages:
        steps = tuple(_pilot(spec, sizes))
        gated = sizes.judge_decides and judge_is_tried(judge_uses([Stage(PILOT, steps), *stages]))
        gate = PlannedStep(
            StepKind.REVIEW,
            JUDGE_GATE,
            Calls(JUDGE_GATE),
            Calls(JUDGE_GATE, REPAIRED),
            written=WRITTEN * spec.teacher.max_tokens,
        )
        planted = PlannedStep(
            StepKind.COMPARE,
            spec.pilot.judge_pairs,
            Calls(),
            Calls(spec.pilot.judge_pairs, ORDERS * REPAIRED),
            written=2 * WRITTEN * spec.teacher.max_tokens,
        )
        gates = (gate, planted) if spec.pilot.judge_pairs else (gate,)
        stages.insert(0, Stage(PILOT, (*steps, *gates) if gated else steps))
    return Plan(tuple(stages), sizes.questions)


def judge_uses(stages: Iterable[Stage]) -> list[JudgeUse]:
    uses = {step.use for stage in stages for step in stage.steps}
    return [use for use in JudgeUse if use in uses]


def judge_is_tried(uses: Iterable[str]) -> bool:
    """Whether the pilot has the judge decide on a few answers first: where more than the last comparison relies on it."""
    return any(use != JudgeUse.EVALUATION for use in uses)


class Measured(NamedTuple):
    """How many students besides the base are measured at most: on the questions of dev that decide, on those for choosing among rounds
    and among turns, and on test. compared: of those on test, baselines and phases, which the judge compares with the final model."""

    deciding: int
    rounds: int
    turns: int
    test: int
    compared: int


def students_measured(spec: Distillation, references: bool) -> Measured:
    """references: whether train has any."""
    several = {Phase.ITERATE: spec.iterate.rounds, Phase.EVOLVE: spec.evolve.turns}
    rounds, iterations = (n if phase in spec.phases and n > 1 else 0 for phase, n in several.items())
    settings = spec.evaluation
    draws = settings.shot_seeds - 1 if Baseline.FEW_SHOT in settings.baselines else 0
    baselines = len(settings.baselines) + draws if references else 0
    phases, before_rounds = len(spec.phases), int(rounds > 0)
    test = phases + rounds + iterations + baselines
    return Measured(phases, rounds + before_rounds, iterations, test, baselines + phases - 1)


def calls_per_judged_question(spec: Distillation) -> int:
    """At most: the pair in both orders, both scores where the job asks for them, every reply asked for once more."""
    return (ORDERS + (2 if spec.evaluation.absolute_scores else 0)) * REPAIRED


def _taught(spec: Distillation, rows: int) -> Calls:
    """Calls for the teacher's answers to so many questions."""
    return Calls(rows, spec.teacher.samples)


def _agreed(spec: Distillation, rows: float) -> Iterable[PlannedStep]:
    if spec.teacher.samples > 1:
        yield PlannedStep(StepKind.AGREE, rows)


def _settled(spec: Distillation, sizes: Sizes, n: int, fresh: int, ways: int = 1) -> Iterable[PlannedStep]:
    """Which of the teacher's samples to n questions is learned: one that the grader passes, or one that most agree on. fresh: of them,
    whose answers were not graded before."""
    if spec.teacher.keep == "passing":
        yield PlannedStep(StepKind.GRADE, n * ways * spec.teacher.samples)
        pool, answers = sizes.pools[Phase.DISTILL], ways * spec.teacher.samples
        least, most = Calls(fresh - pool.without_reference_of(fresh)[1]), n - pool.without_reference_of(n)[0]
        for grader in _asking([spec.judge.grader]):
            yield _graded_by(grader, most, least, answers, Phase.DISTILL, spec.teacher.max_tokens)
    else:
        yield from _agreed(spec, n * ways)


def _pilot(spec: Distillation, sizes: Sizes) -> Iterable[PlannedStep]:
    n = min(spec.pilot.questions, sizes.questions[Phase.DISTILL])
    asked, drawn = _taught(spec, n), n * spec.teacher.samples
    if spec.guidance is not Guidance.WEAK:
        yield PlannedStep(StepKind.TEACH, drawn, asked, asked)
        yield from _agreed(spec, n)
    if spec.guidance is not Guidance.NONE:
        yield PlannedStep(StepKind.GUIDE, n)
        yield PlannedStep(StepKind.TEACH, drawn, asked, asked, guided=True)
        yield from _agreed(spec, n)
    both = spec.guidance in (Guidance.AUTO, Guidance.BEST)
    yield from _gated(spec, sizes, min(n, JUDGE_GATE), ways=2 if both else 1)
    if both:
        yield _compared(spec, sizes, n)
        yield from _compared_by_models(spec, sizes, n)


def _gated(spec: Distillation, sizes: Sizes, n: int, ways: int) -> Iterable[PlannedStep]:
    """The teacher's first answers, each way, by judge.grader, where it asks a model."""
    low, high = sizes.pools[Phase.DISTILL].without_reference_of(n)
    for grader in _asking([spec.judge.grader]):
        yield _graded_by(grader, n - low, Calls(n - high), ways, Phase.DISTILL, spec.teacher.max_tokens)


def _distill(spec: Distillation, sizes: Sizes, pilot: PilotOutcome | None) -> Iterable[PlannedStep]:
    """The pilot's answers are cached: the same requests cost nothing again."""
    n = sizes.questions[Phase.DISTILL]
    every_sample = spec.distill.answers == "teacher" and spec.teacher.keep == "all"
    if spec.distill.answers == "teacher":
        guidance = pilot.guidance if pilot else spec.guidance
        fresh = _taught(spec, n - min(spec.pilot.questions, n))
        either = guidance is Guidance.AUTO
        if guidance is not Guidance.WEAK:
            most = _taught(spec, n - pilot.usable if pilot else n)
            yield PlannedStep(
                StepKind.TEACH, 0 if either else n * spec.teacher.samples, fresh, most, alternative=either
            )
        if guidance is not Guidance.NONE:
            yield PlannedStep(StepKind.GUIDE, n)
            # a guideline may come out otherwise than in the pilot, and its answer is then asked for again
            rows = 0 if guidance is Guidance.BEST else n * spec.teacher.samples
            yield PlannedStep(StepKind.TEACH, rows, fresh, _taught(spec, n), guided=True, alternative=either)
        if not every_sample:
            graded = min(n, spec.pilot.questions, JUDGE_GATE)  # by the pilot
            yield from _settled(spec, sizes, n, n - graded, ways=2 if guidance is Guidance.BEST else 1)
        if guidance is Guidance.BEST:
            yield _compared(spec, sizes, n)
            yield from _compared_by_models(spec, sizes, n)
    yield PlannedStep(StepKind.SFT, n * (spec.teacher.samples if every_sample else 1) * spec.distill.epochs)


def _asking(graders: Iterable[Grader | VerifyingGrader | None]) -> list[ScoreModelGrader | LabelModelGrader]:
    """Those that ask a strong model, each once."""
    asked = [part for grader in graders if grader is not None for part in models_of(grader)]
    return [part for place, part in enumerate(asked) if part not in asked[:place]]


def _graded_by(
    grader: ScoreModelGrader | LabelModelGrader, n: int, least: Calls, answers: int, about: Phase | Split, tokens: int
) -> PlannedStep:
    """answers: to each of n questions at most. Equal answers are asked about once."""
    most = Calls(n, answers * REPAIRED)
    return PlannedStep(StepKind.GRADE, 0, least, most, about, written=WRITTEN * tokens, grader=grader)


def _compared(spec: Distillation, sizes: Sizes, n: int) -> PlannedStep:
    """Both answers to n questions; where not all have references the judge says which is better."""
    low, high = sizes.pools[Phase.DISTILL].without_reference_of(n)
    use = JudgeUse.GUIDANCE if sizes.pools[Phase.DISTILL].without_reference else None
    if not sizes.judge_decides:
        return PlannedStep(StepKind.COMPARE, use=use)
    least, most = Calls(n if low == n else 0, ORDERS), Calls(n if high else 0, ORDERS * REPAIRED)
    return PlannedStep(StepKind.COMPARE, 0, least, most, written=2 * WRITTEN * spec.teacher.max_tokens, use=use)


def _compared_by_models(spec: Distillation, sizes: Sizes, n: int) -> Iterable[PlannedStep]:
    """The same where references say which is better, and the primary metric asks a model."""
    low, high = sizes.pools[Phase.DISTILL].without_reference_of(n)
    for grader in _asking([spec.primary_metric]):
        yield _graded_by(grader, n - low, Calls(0 if high else n), ORDERS, Phase.DISTILL, spec.teacher.max_tokens)


def _iterate(spec: Distillation, sizes: Sizes) -> Iterable[PlannedStep]:
    settings, pool, n = spec.iterate, sizes.pools[Phase.ITERATE], sizes.questions[Phase.ITERATE]
    first = len(rounds_of(range(n), settings.rounds, settings.round_questions)[0])  # rounds end where dev shows no gain
    judged, at_least = (n, n), first
    if spec.judge.grader:  # it decides where there is a reference
        judged, at_least = pool.without_reference_of(n), pool.without_reference_of(first)[0]
    graded = n - judged[1]  # the judge only says why these do not pass
    if not sizes.judge_decides:
        judged, at_least = (0, 0), 0
    use = JudgeUse.ITERATE if spec.judge.grader is None or pool.without_reference else None
    written = WRITTEN * spec.student_tokens  # completion and rationale, within one limit
    learned, share = n * LATER_TRY, 1.0  # rows of a round's training; of the questions that come to the loop
    if settings.strategy != "critique":
        drawn = n + (sizes.questions.get(Phase.DISTILL, 0) if settings.reuse_questions else 0)
        learned, share = drawn * min(settings.keep, settings.samples) * KEPT, 1 - LATER_TRY
        yield from _sampled(spec, drawn, settings.samples)
        if settings.without_reference == "judge" and sizes.judge_decides:
            high = (
                min(drawn, pool.rows)
                if spec.judge.grader is None
                else pool.without_reference_of(min(drawn, pool.rows))[1]
            )
            most, rows = Calls(high, REPAIRED * settings.samples), high * settings.samples * KEPT
            yield PlannedStep(StepKind.REVIEW, rows, Calls(at_least), most, Phase.ITERATE, written=written, use=use)
        at_least = 0
    if settings.strategy != "sample":
        tried = n * share * (1 + (settings.tries - 1) * LATER_TRY)
        yield PlannedStep(StepKind.REASON, tried)
        most = Calls(judged[1], REPAIRED * settings.tries)
        yield PlannedStep(StepKind.REVIEW, tried, Calls(at_least), most, Phase.ITERATE, written=written, use=use)
        most = Calls(graded, REPAIRED * (settings.tries - 1))
        yield PlannedStep(StepKind.REVIEW, 0, Calls(), most, Phase.ITERATE, written=written)
    tries = 0 if settings.strategy == "sample" else settings.tries
    for grader in _asking([spec.judge.grader]):
        asked = tries + 1 + (0 if settings.strategy == "critique" else settings.samples)
        yield _graded_by(grader, n, Calls(first), asked, Phase.ITERATE, spec.student_tokens)
    if settings.on_failure == "teacher":
        yield PlannedStep(StepKind.TEACH, 0, Calls(), _taught(spec, n), Phase.ITERATE)
    again = (
        0 if settings.strategy == "critique" or settings.train_from == "last" else sizes.questions.get(Phase.DISTILL, 0)
    )
    yield PlannedStep(StepKind.SFT, (learned + again) * settings.epochs)


def _sampled(spec: Distillation, questions: int, samples: int) -> Iterable[PlannedStep]:
    """So many samples of each question, verified on this machine."""
    yield PlannedStep(StepKind.SAMPLE, questions * samples)
    if spec.judge.grader:
        yield PlannedStep(StepKind.GRADE, questions * samples)
    yield PlannedStep(StepKind.AGREE, questions)


def _evolve(spec: Distillation, sizes: Sizes) -> Iterable[PlannedStep]:
    settings, n = spec.evolve, sizes.questions[Phase.EVOLVE]
    if spec.contrasts:
        drawn = sum(sizes.questions.values()) if settings.reuse_questions else n
        samples = sum(turn_samples(settings.samples, settings.growth, turn) for turn in range(1, settings.turns + 1))
        yield from _sampled(spec, drawn, samples)
        references = settings.turns if settings.unsolved == "reference" else 0
        for grader in _asking([spec.judge.grader]):
            yield _graded_by(grader, drawn, Calls(), samples + references, Phase.EVOLVE, spec.student_tokens)
        n = drawn * settings.pairs_per_question
    elif settings.pairs != "file":
        yield PlannedStep(StepKind.SEARCH, n * settings.turns)
    yield PlannedStep(StepKind.DPO, n * DIFFERING * settings.epochs * settings.turns)


def _evaluate(spec: Distillation, sizes: Sizes) -> Iterable[PlannedStep]:
    settings = spec.evaluation
    on_dev = min(sizes.dev, settings.dev_questions or sizes.dev)
    on_test = min(sizes.test, settings.test_questions or sizes.test)
    students = students_measured(spec, sizes.references)
    choice = min(sizes.choice or 0, on_dev)
    deciding, choosing = on_dev - choice, choice or on_dev
    turns = 0 if sizes.choice == 0 else students.turns  # on a dev that is not parted the last one is kept
    on_parts = deciding * (1 + students.deciding) + choosing * (students.rounds + turns)
    answers = 2 * settings.forgetting + on_parts + on_test * (1 + students.test)
    yield PlannedStep(StepKind.ANSWER, answers)
    yield PlannedStep(StepKind.GRADE, answers)
    if not sizes.judge_measures:
        for grader in _asking([spec.primary_metric, *settings.graders]):
            for split, n, models in (
                (Split.DEV, deciding, 2 + students.deciding),  # with the base and the served version
                (Split.DEV, choosing, students.rounds + turns),
                (Split.TEST, on_test, 1 + students.test),
            ):
                if models:
                    yield _graded_by(grader, n, Calls(n), models, split, spec.answer_tokens)
    if settings.judged_questions:
        yield from _judged(spec, min(settings.judged_questions, on_test))
    if sizes.judge_measures:  # equal answers are ties without asking
        final = int(
            len(spec.phases) > 1
        )  # the final model with the base, where that is not the only phase's comparison
        chosen = max(0, students.rounds - 1) + max(0, turns - 1)  # each with the best before it
        for split, n, pairs, unplanned in (
            (Split.DEV, deciding, students.deciding + final, 1),  # the served version, which may not be there
            (Split.DEV, choosing, chosen, 0),
            (Split.TEST, on_test, students.test + students.compared, 0),
        ):
            calls = Calls(n if sizes.judge_decides else 0, (pairs + unplanned) * ORDERS * REPAIRED)
            written = 2 * WRITTEN * spec.answer_tokens
            if pairs:
                yield PlannedStep(
                    StepKind.COMPARE, n * pairs, Calls(), calls, split, written=written, use=JudgeUse.MEASURING
                )
    if Baseline.SFT_REFERENCES in settings.baselines and sizes.references:
        yield PlannedStep(StepKind.SFT, sum(sizes.questions.values()) * spec.distill.epochs)


def _judged(spec: Distillation, n: int) -> Iterable[PlannedStep]:
    """The final model against the base: it stops when the share is known, or the budget used up."""
    settings = spec.evaluation
    calls = ORDERS + (2 if settings.absolute_scores else 0)
    low, most = min(n, spec.batch_size), Calls(n, calls * REPAIRED)
    if settings.max_judge_calls is not None and settings.max_judge_calls < most.total:
        low = min(low, settings.max_judge_calls // (calls * REPAIRED))
        most = Calls(min(n, settings.max_judge_calls // calls), calls)  # so many where no reply is asked for again
    written = 2 * WRITTEN * spec.answer_tokens
    least = Calls(low, calls)
    yield PlannedStep(StepKind.COMPARE, n, least, most, Split.TEST, written=written, use=JudgeUse.EVALUATION)
    if settings.absolute_scores:
        yield PlannedStep(StepKind.RATE, 2 * n, about=Split.TEST)  # its calls are counted above
