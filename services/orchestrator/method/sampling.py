"""`Sampler`: draws several answers of the student to each question, and verifies them. Only the rule "judge" asks a strong model
(samples.py has the rules).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.method.durable import Gather, Step
from services.orchestrator.method.grading import Grading
from services.orchestrator.method.judging import Judge
from services.orchestrator.method.samples import Drawn, is_whole
from services.orchestrator.method.students import Students
from shared.contracts.data import Question
from shared.contracts.rows import Sampled, Samples, StudentCompletion, judge_input
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind


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
class Sampler:
    students: Students
    grading: Grading
    judge: Judge
    step: Step
    gather: Gather

    async def draw(
        self, key: StepKey, how: Draw, questions: Sequence[Question], judge_decides: bool = False
    ) -> list[Drawn]:
        """how.n samples of each question, verified. key: of the round or turn; its role is the first part of the steps' roles."""
        params = self.students.asking(how.model, temperature=how.temperature, n=how.n)

        async def one_batch(index: int, batch: Sequence[Question]) -> list[Drawn]:
            at = StepKey(key.phase, key.round, key.role, index)
            prompts = [self.students.prompt(q) for q in batch]
            drawn = await self.step(at.child("answers"), StepKind.SAMPLE, params, prompts)
            completions = [row.completions for row in drawn.read(Samples)]
            return await self.verified(at, how, batch, completions, judge_decides)

        return [one for batch in await self.gather(one_batch, questions) for one in batch]

    async def verified(
        self,
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
        scores = await self.grading.grade_distinct(key.child("grades"), questions, answers)
        groups = await self.groups_of(key.child("votes"), questions, completions)
        ungraded = [place for place, given in enumerate(scores) if given is None and whole[place]]
        said: dict[int, dict[str, bool]] = {}
        if how.agreement is None and judge_decides and ungraded:
            said = await self.judged(key.child("verdicts"), {p: (questions[p], whole[p]) for p in ungraded})
        threshold, results = self.grading.pass_threshold, list[Drawn]()
        for place, question in enumerate(questions):
            several, group, by = completions[place], groups[place], "nobody"
            passed, reward = [False] * len(several), list[float]()
            reference_passes = False
            if (given := scores[place]) is not None:
                by, reward = "grader", [given[c.answer] if is_whole(c) else 0.0 for c in several]
                passed = [is_whole(c) and score >= threshold for c, score in zip(several, reward, strict=True)]
                reference_passes = any(given[own] >= threshold for own in references[place])
            elif how.agreement is not None:
                by, least = "agreement", how.agreement * len(several)
                passed = [one is not None and group.count(one) > least for one in group]
            elif judge_decides:
                by, passed = "judge", [is_whole(c) and said[place][c.answer] for c in several]
            results.append(Drawn(question, several, passed, group, by, reward, reference_passes))
        return results

    async def groups_of(
        self, key: StepKey, questions: Sequence[Question], completions: Sequence[Sequence[StudentCompletion]]
    ) -> list[list[int | None]]:
        """By question the group of each completion, whole ones only."""
        places = [[place for place, c in enumerate(several) if is_whole(c)] for several in completions]
        asked = [row for row in range(len(questions)) if places[row]]
        rows = [
            Sampled(id=questions[row].id, texts=[completions[row][place].answer for place in places[row]])
            for row in asked
        ]
        groups: list[list[int | None]] = [[None] * len(several) for several in completions]
        for row, votes in zip(asked, await self.grading.votes(key, rows) if rows else (), strict=True):
            for number, group in enumerate(votes.groups):
                for member in group.members:
                    groups[row][places[row][member]] = number
        return groups

    async def judged(
        self, key: StepKey, asked: dict[int, tuple[Question, Sequence[str]]]
    ) -> dict[int, dict[str, bool]]:
        """By place the judge's word on each answer; one without a verdict does not pass."""
        rows = [
            judge_input(question, answer, want_critique=False) for question, given in asked.values() for answer in given
        ]
        passed = iter(verdict.passed for verdict in await self.judge.review(key, rows, alone=True))
        return {place: {answer: next(passed) for answer in given} for place, (_, given) in asked.items()}
