"""Measuring students: on dev for every decision, on test for the report and nothing else.

All students answer the bare question through one prompt and are graded on the answer alone, without the rationale. Where there
are no references they have no scores by themselves: the judge compares two at a time (head_to_head.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from services.orchestrator.method.durable import Gather, Step
from services.orchestrator.method.grading import Grading
from services.orchestrator.method.state import State
from services.orchestrator.method.students import Students
from shared.contracts.data import Question, Split, group_key
from shared.contracts.distillation import Phase
from shared.contracts.grader_kinds import BINARY_GRADERS, Grader, VerifyingGrader, name_of
from shared.contracts.report import WinRecord
from shared.contracts.rows import TOO_LONG, Grades, Shot, StudentCompletion
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind
from shared.evaluation.grouped import grouped_gain, grouped_mean
from shared.evaluation.statistics import LEVEL, Interval

Pair = tuple["EvalResult", "EvalResult"]
Shots = Callable[[Question], list[Shot]]  # the worked examples that stand before a question
BASE = "base"


@dataclass(frozen=True)
class EvalResult:
    """One student on one split. scores: per grader one value in [0, 1] per question, in the split's order; the first grader decides.

    draws: over how many random draws of worked examples each score is the mean; the answers are the first draw's.
    bare: it was asked without worked examples. too_long: questions that did not fit into its context. cut_off: answers that ended
    at their limit of tokens. missing_markers: answers
    without a rationale and marker before them; None where the student was never trained to write them. groups: one name per
    question; questions of one group stand on the same passage, conversation or query. part: what was asked, "test", "dev", or a part
    of it. questions: those of it. each: the draws, where there are several.
    """

    name: str
    model: ModelRef
    scores: dict[str, list[float]]
    answers: list[str]
    draws: int = 1
    bare: bool = True
    too_long: int = 0
    cut_off: int = 0
    missing_markers: int | None = None
    groups: Sequence[str] = ()
    part: str = ""
    questions: Sequence[Question] = ()
    each: Sequence["EvalResult"] = ()

    @property
    def metric(self) -> str:
        """What decides: the job's primary metric, or the judge's preference."""
        return next(iter(self.scores))

    def value(self, metric: str | None = None) -> Interval:
        """The share or mean of a metric, by default of the one that decides, with its 95 % interval."""
        metric = metric or self.metric
        values = self.scores[metric]
        return grouped_mean(is_share(metric, values), values, self.groups)

    def gain_over(self, other: "EvalResult", metric: str | None = None, level: float = LEVEL) -> Interval:
        """The paired gain of this student over another on the same questions in a metric, by default the one that decides, with its
        interval (95 % unless level is given).

        Over itself it is exactly nothing, on these questions and on all others. Two students that only answered alike
        here may differ elsewhere, and get an interval that says so.
        """
        metric = metric or self.metric
        before, after = other.scores[metric], self.scores[metric]
        if self.model == other.model and self.bare and other.bare:
            return Interval(0.0, 0.0, 0.0, len(after))
        return grouped_gain(is_share(metric, [*before, *after]), before, after, self.groups, level)

    def record_against(self, other: "EvalResult") -> WinRecord:
        """On how many questions this student scored higher, the same, lower than another."""
        pairs = list(zip(self.scores[self.metric], other.scores[self.metric], strict=True))
        win, loss = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        return WinRecord(win=win, tie=len(pairs) - win - loss, loss=loss)


def is_share(metric: str, values: Sequence[float]) -> bool:
    """Whether a metric's values are right or wrong; the mean over several draws is neither."""
    return metric in BINARY_GRADERS and all(value in (0, 1) for value in values)


def mean_of(name: str, draws: Sequence[EvalResult]) -> EvalResult:
    """Several measurements of one model on the same questions as one: each question's score is its mean."""
    first = draws[0]
    scores = {
        grader: [fmean(row) for row in zip(*(d.scores[grader] for d in draws), strict=True)] for grader in first.scores
    }
    return replace(first, name=name, scores=scores, draws=len(draws), each=draws, missing_markers=None)


@dataclass(frozen=True)
class Measuring:
    """measured: the questions that students are measured on; of dev those that decide. choice: the part of dev that rounds and turns are
    chosen on; empty where dev is not parted. judge_measures: the judge does, and no grader."""

    measured: Mapping[Split, Sequence[Question]]
    choice: Sequence[Question]
    judge_measures: bool
    base: ModelRef
    students: Students
    grading: Grading
    step: Step
    gather: Gather

    async def measure(
        self, state: State, name: str, split: Split, model: ModelRef, shots: Shots | None = None
    ) -> EvalResult:
        """Greedy answers to the split's questions with references, graded; on dev, to those that decide."""
        part = "dev/rest" if split is Split.DEV and self.choice else split.value
        return await self._measure(state, f"{part}/{name}", self.measured[split], model, shots)

    async def measure_base(
        self, state: State, split: Split, name: str = BASE, shots: Shots | None = None
    ) -> EvalResult:
        """The base; shots: with worked examples before each question."""
        return await self.measure(state, name, split, self.base, shots)

    async def measure_to_choose(self, state: State, name: str, model: ModelRef) -> EvalResult:
        """On the part of dev that rounds and turns are chosen on; on all of it where it is not parted."""
        if not self.choice:
            return await self.measure(state, name, Split.DEV, model)
        return await self._measure(state, f"dev/choice/{name}", self.choice, model)

    async def _measure(
        self, state: State, name: str, questions: Sequence[Question], model: ModelRef, shots: Shots | None = None
    ) -> EvalResult:
        spec = self.grading.spec
        graders = [] if self.judge_measures else [spec.primary_metric, *spec.evaluation.graders]
        return await self.answer_and_grade(state, name, questions, model, graders, spec.student_tokens, shots)

    async def answer_and_grade(
        self,
        state: State,
        name: str,
        questions: Sequence[Question],
        model: ModelRef,
        graders: Sequence[Grader | VerifyingGrader],
        max_tokens: int,
        shots: Shots | None = None,
    ) -> EvalResult:
        """Greedy answers of a model to questions, graded where there are graders. name: its last part is the result's."""
        asking = self.students.asking(model, max_tokens)
        names = list(dict.fromkeys(name_of(grader) for grader in graders))

        async def evaluate(index: int, batch: Sequence[Question]) -> list[tuple[StudentCompletion, Grades]]:
            prompts = [self.students.prompt(q, shots=shots(q) if shots else []) for q in batch]
            key = StepKey("evaluate", role=f"{name}/answers", batch=index)
            completions = (await self.step(key, StepKind.ANSWER, asking, prompts)).read(StudentCompletion)
            if not graders:
                return [(completion, Grades(id=completion.id, scores={})) for completion in completions]
            key, answers = StepKey("evaluate", role=f"{name}/grades", batch=index), [c.answer for c in completions]
            graded = await self.grading.grade_by_all(key, batch, answers, graders, asking.sampling)
            return list(zip(completions, graded, strict=True))

        pairs = [pair for batch in await self.gather(evaluate, questions) for pair in batch]
        unmarked = sum(c.rationale is None and c.finish_reason != TOO_LONG for c, _ in pairs)
        part, _, last = name.rpartition("/")
        return EvalResult(
            name=last,
            model=model,
            scores={name: [grades.scores.get(name, 0.0) for _, grades in pairs] for name in names},
            answers=[completion.answer for completion, _ in pairs],
            bare=shots is None,
            too_long=sum(completion.finish_reason == TOO_LONG for completion, _ in pairs),
            cut_off=sum(completion.cut_off for completion, _ in pairs),
            missing_markers=unmarked if model.tuned in state.writes_rationale else None,
            groups=[group_key(q) for q in questions],
            part=part,
            questions=questions,
        )

    async def measure_phases(self, state: State, phases: Mapping[Phase, ModelRef]) -> list[EvalResult]:
        """Each phase's student on test, after those of its rounds or iterations."""
        students = [
            student
            for phase, model in phases.items()
            for student in (*state.checkpoints.get(phase, ()), (phase.value, model))
        ]
        return [await self.measure(state, name, Split.TEST, model) for name, model in students]
