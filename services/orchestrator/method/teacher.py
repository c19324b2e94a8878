"""`Teacher`: the teacher's responses, one usable text for each question out of however many samples were asked for. A text that repeats its
input or is in another language is no answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from services.orchestrator.method.agreed import distinct_samples, most_agreed
from services.orchestrator.method.durable import Step
from services.orchestrator.method.grading import Grading
from services.orchestrator.method.passing import passing
from services.orchestrator.method.selection import letters_by_script, near_duplicates, scripts, words
from shared.artifacts.material import Material
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Keep
from shared.contracts.rows import TeacherInput, TeacherResponse, asked_of_teacher
from shared.contracts.step_key import StepKey
from shared.contracts.steps import RATIONALE_VERSION, Sampling, StepKind, TeachParams

COPIED_WORDS = 8  # a shorter guideline may contain the right answer itself
FOREIGN_LETTERS = 8  # fewer letters are a symbol, not a language
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
        rationale_version=RATIONALE_VERSION if spec.reasons else 1,
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


def with_checked_outcome(
    response: TeacherResponse, question: Question, guideline: str | None, known: frozenset[str]
) -> TeacherResponse:
    """The response, its outcome replaced where it was ok and the answer repeats its input or is in another language.

    known: the scripts of the job's references, which stand in where the question has no reference.
    """
    fault = _fault(response.answer, question, guideline, known) if response.outcome == "ok" else None
    return response.model_copy(update={"outcome": fault}) if fault else response


def _fault(answer: str, question: Question, guideline: str | None, known: frozenset[str]) -> str | None:
    reference = question.reference or ""
    if words(answer) == words(question.asked) and words(answer) != words(reference):
        return "repeats_question"
    if guideline and len(words(guideline)) >= COPIED_WORDS and near_duplicates([guideline, answer]):
        return None if near_duplicates([reference, answer]) else "copies_guideline"
    if is_foreign(answer, scripts([question.text]) | (scripts([reference]) or known)):
        return "other_language"
    return None


def is_foreign(answer: str, wanted: frozenset[str]) -> bool:
    """Whether most letters of an answer come from other scripts than the wanted ones."""
    letters = letters_by_script(answer)
    foreign = sum(count for script, count in letters.items() if script not in wanted)
    return foreign >= FOREIGN_LETTERS and 2 * foreign > letters.total()
