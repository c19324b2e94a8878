"""`Grading`: the job's graders. They score answers against references, and say which answers are the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.orchestrator.method.durable import Step
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation
from shared.contracts.grader_kinds import Grader, VerifyingGrader, asks_elsewhere, name_of
from shared.contracts.rows import Grades, Sampled, TeacherResponse, Votes, grader_input, judge_input
from shared.contracts.step_key import StepKey
from shared.contracts.steps import AgreeParams, JudgeParams, Sampling, StepKind


@dataclass(frozen=True)
class Grading:
    """params: the judge's; a step of grading is asked with the same. files: what graders read, file id -> artifact."""

    spec: Distillation
    params: JudgeParams
    files: Mapping[str, str]
    step: Step

    @property
    def pass_threshold(self) -> float:
        return self.spec.judge.pass_mark

    async def grade(
        self, key: StepKey, questions: Sequence[Question], answers: Sequence[str], grader: Grader | VerifyingGrader
    ) -> list[float]:
        """Scores in [0, 1] by one grader; every question has a reference, and one that cannot be graded against gives 0."""
        rows = [grader_input(question, answer) for question, answer in zip(questions, answers, strict=True)]
        asking = self.params.model_copy(update={"material": [], "verify": self._verifying([grader])})
        graded = await self.step(key, StepKind.GRADE, asking, rows)
        return [row.scores.get(name_of(grader), 0.0) for row in graded.read(Grades)]

    async def grade_by_all(
        self,
        key: StepKey,
        questions: Sequence[Question],
        answers: Sequence[str],
        graders: Sequence[Grader | VerifyingGrader],
        sampling: Sampling,
    ) -> list[Grades]:
        """Scores of a student's answers by several graders. sampling: how the student decoded."""
        asking = JudgeParams(judge=self.params.judge, domain=self.spec.domain, sampling=sampling)
        if not all(isinstance(grader, Grader) for grader in graders):
            asking = asking.model_copy(update={"verify": self._verifying(graders), "files": dict(self.files)})
        rows = [grader_input(question, answer) for question, answer in zip(questions, answers, strict=True)]
        return (await self.step(key, StepKind.GRADE, asking, rows)).read(Grades)

    async def grade_distinct(
        self, key: StepKey, questions: Sequence[Question], answers: Sequence[Sequence[str]]
    ) -> list[dict[str, float] | None]:
        """By question the score of each of its answers by judge.grader; None where it cannot grade, or there is none. Of no answer it
        can where there is a reference."""
        grader = self.spec.judge.grader
        rows = [judge_input(question, one) for question, given in zip(questions, answers, strict=True) for one in given]
        if grader is None:
            return [None] * len(questions)
        asking = self.params.model_copy(update={"verify": [] if isinstance(grader, Grader) else [grader]})
        graded = (await self.step(key, StepKind.GRADE, asking, rows)).read(Grades) if rows else []
        scores = iter(row.scores.get(name_of(grader)) for row in graded)
        by_question = [{answer: next(scores) for answer in given} for given in answers]
        return [
            None
            if None in given.values() or not (given or question.reference)
            else {answer: score or 0.0 for answer, score in given.items()}
            for question, given in zip(questions, by_question, strict=True)
        ]

    async def below_pass_threshold(
        self, key: StepKey, questions: Sequence[Question], responses: Sequence[TeacherResponse]
    ) -> dict[str, float]:
        """Scores, by id, of usable responses that judge.grader would not let a student pass with. Empty without a grader;
        questions without a reference are left out."""
        grader = self.spec.judge.grader
        gradable = [(q, r) for q, r in zip(questions, responses, strict=True) if r.outcome == "ok" and q.reference]
        if grader is None or not gradable:
            return {}
        asked = [question for question, _ in gradable]
        scores = await self.grade(key, asked, [response.answer for _, response in gradable], grader)
        return {q.id: score for q, score in zip(asked, scores, strict=True) if score < self.pass_threshold}

    async def votes(self, key: StepKey, rows: Sequence[Sampled]) -> list[Votes]:
        """Which of a question's texts are the same answer, where no reference says what is right."""
        grader = self.spec.agreement_grader
        asking = AgreeParams(grader=grader, files={} if isinstance(grader, Grader) else dict(self.files))
        return (await self.step(key, StepKind.AGREE, asking, rows)).read(Votes)

    def _verifying(self, asked: Sequence[Grader | VerifyingGrader]) -> list[VerifyingGrader]:
        """The job's graders beside the named ones, of those that ask elsewhere only the ones that are asked for."""
        wanted = {name_of(grader) for grader in asked}
        own = {name_of(grader): grader for grader in self.spec.verifying}.values()
        return [grader for grader in own if not asks_elsewhere(grader) or name_of(grader) in wanted]
