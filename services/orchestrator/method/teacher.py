"""`Teacher`: the teacher's responses, one usable text for each question out of however many samples were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from services.orchestrator.method.agreed import distinct_samples, most_agreed
from services.orchestrator.method.durable import Step
from services.orchestrator.method.grading import Grading
from services.orchestrator.method.passing import passing
from services.orchestrator.method.response_checks import with_checked_outcome
from shared.artifacts.material import Material
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Keep
from shared.contracts.rows import TeacherInput, TeacherResponse, asked_of_teacher
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Sampling, StepKind, TeachParams

NO_GUIDELINES: Mapping[str, str] = MappingProxyType({})


def teach_params(spec: Distillation, seed: int, material: Material) -> TeachParams:
    """How the teacher is asked, in every phase that asks it."""
    teacher = spec.teacher
    return TeachParams(
        teacher=teacher.provider,
        domain=spec.domain,
        sampling=Sampling(max_tokens=teacher.max_tokens, temperature=teacher.temperature, seed=seed),
        ground=teacher.ground,
        batch=teacher.batch,
        rationale=spec.reasons,
        material=list(material.digests),
        samples=teacher.samples,
    )


@dataclass(frozen=True)
class Teacher:
    """keep: teacher.keep. reference_scripts: the scripts that the references are written in."""

    params: TeachParams
    keep: Keep
    reference_scripts: frozenset[str]
    grading: Grading
    step: Step

    async def respond(
        self, key: StepKey, questions: Sequence[Question], guidelines: Mapping[str, str] = NO_GUIDELINES
    ) -> list[TeacherResponse]:
        """What the job keeps of the teacher's responses (teacher.keep): one to each question, or every distinct one. guidelines: by
        question, under which the teacher answers."""
        return await self._respond(key, questions, guidelines, self.keep)

    async def respond_once(self, key: StepKey, questions: Sequence[Question]) -> list[TeacherResponse]:
        """One response to each question, also where the job keeps every distinct one."""
        return await self._respond(key, questions, NO_GUIDELINES, "agreed" if self.keep == "all" else self.keep)

    async def respond_unverified(
        self, key: StepKey, questions: Sequence[Question], guidelines: Mapping[str, str]
    ) -> list[TeacherResponse]:
        """One response to each question, by the teacher's own agreement: no reference takes its place."""
        return await self._respond(key, questions, guidelines, "agreed")

    async def _respond(
        self, key: StepKey, questions: Sequence[Question], guidelines: Mapping[str, str], keep: Keep
    ) -> list[TeacherResponse]:
        """The responses to a batch, with their outcomes checked."""
        rows = [
            TeacherInput(**asked_of_teacher(q), reference=q.reference, guideline=guidelines.get(q.id))
            for q in questions
        ]
        answered = await self.step(key.child("answers"), StepKind.TEACH, self.params, rows)

        def checked(response: TeacherResponse, question: Question) -> TeacherResponse:
            return with_checked_outcome(response, question, guidelines.get(question.id), self.reference_scripts)

        asked = list(zip(questions, answered.read(TeacherResponse), strict=True))
        if keep == "all":
            return [checked(one, question) for question, response in asked for one in distinct_samples(response)]
        verifiable, others = list[tuple[Question, TeacherResponse]](), list[tuple[Question, TeacherResponse]]()
        for question, response in asked:
            (verifiable if keep == "passing" and question.reference else others).append((question, response))
        settled = await passing(self.grading, key.child("passing"), verifiable, checked) if verifiable else []
        if self.params.samples > 1 and others:
            settled += await most_agreed(self.grading, key.child("votes"), others, checked)
        else:
            settled += [checked(response, question) for question, response in others]
        by_id = {response.id: response for response in settled}
        return [by_id[question.id] for question in questions]
