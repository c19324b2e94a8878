"""The rows that travel between steps. Every row keeps the `id` of the question it belongs to."""

from typing import Any, Literal

from pydantic import Field

from shared.contracts.answer_format import CUT_OFF, join_answer, read_answer
from shared.contracts.answer_format import student_messages as bare_question
from shared.contracts.conversation import (
    Conversation,
    answered,
    student_conversation,
    teacher_conversation,
)
from shared.contracts.data import Question
from shared.contracts.json_types import Json
from shared.contracts.steps import Wire

TOO_LONG = (
    "too_long"  # a finish_reason beside OpenAI's: the prompt alone exceeds the student's context, nothing was written
)


def _is_none(value: Any) -> bool:
    return value is None


def _is_one(value: float) -> bool:
    return value == 1


def _is_false(value: bool) -> bool:
    return not value


def _is_empty(value: list) -> bool:
    return not value


Side = Literal["chosen", "rejected"]  # of a preference pair
Shot = tuple[str, str] | list[Json]  # a question and its answer, or the turns of a conversation up to its answer


class Asked(Wire):
    """What a student is asked: a question alone, or a conversation (`question` is its transcript then, which no student sees).

    The conversation's messages and tools are those that public chat would send to the engine. Left out where there is none, so that
    the steps of plain questions keep their hashes.
    """

    id: str
    question: str
    conversation: Conversation | None = Field(default=None, exclude_if=_is_none)


class StudentPrompt(Asked):
    """A question on its way to a student, with what it may be shown besides: worked examples or its last attempt."""

    shots: list[Shot] = Field(default=[])  # for the few-shot baseline
    previous: str | None = None  # the student's former answer, beside the critique of it
    critique: str | None = None


class TeacherInput(Wire):
    """A question on its way to the teacher. guideline None: plain distillation. conversation: as the file has it, without the
    system text that students get. teacher_context: the row's own material, which the judge is shown too."""

    id: str
    question: str
    reference: str | None = None
    guideline: str | None = None
    conversation: Conversation | None = Field(default=None, exclude_if=_is_none)
    teacher_context: str | None = Field(default=None, exclude_if=_is_none)


class Guideline(Wire):
    """One that is cut off is not shown to the teacher."""

    id: str
    guideline: str
    finish_reason: str

    @property
    def cut_off(self) -> bool:
        return self.finish_reason == CUT_OFF


class TeacherSample(Wire):
    """One of several answers of the teacher to a question; fields as in TeacherResponse."""

    answer: str
    rationale: str | None = Field(default=None, exclude_if=_is_none)
    finish_reason: str
    outcome: str
    call_id: str | None = None


class TeacherResponse(Wire):
    """The teacher's answer. finish_reason as OpenAI's; `outcome` is ok, refused, empty, cut_off, too_long or, where a rationale was
    asked for, no_rationale. completion: what the student learns. samples: all answers where several were asked for, the fields above being those
    of the first usable one. share: of the samples that agree on the answer. from_reference: the record's reference stands in."""

    id: str
    answer: str
    rationale: str | None = Field(default=None, exclude_if=_is_none)
    finish_reason: str
    outcome: str
    call_id: str | None = None
    samples: list[TeacherSample] = Field(default=[], exclude_if=_is_empty)
    share: float | None = Field(default=None, exclude_if=_is_none)
    from_reference: bool = Field(default=False, exclude_if=_is_false)

    def each(self) -> "list[TeacherResponse]":
        """Every sample as a response of its own."""
        return [TeacherResponse(id=self.id, **sample.model_dump()) for sample in self.samples]

    @property
    def completion(self) -> str:
        return join_answer(self.rationale, self.answer)


class CompletionUsage(Wire):
    """Tokens of one completion. cached: the answer was paid for earlier."""

    prompt_tokens: int
    completion_tokens: int
    cached: bool = False


class StudentCompletion(Wire):
    """The student's answer, its rationale apart. marker_missing: the format was asked for and not kept. usage: None for answers of
    before it was kept."""

    id: str
    answer: str
    rationale: str | None = None
    finish_reason: str
    marker_missing: bool = False
    usage: CompletionUsage | None = Field(default=None, exclude_if=_is_none)

    @property
    def cut_off(self) -> bool:
        return self.finish_reason == CUT_OFF

    def marked(self) -> "StudentCompletion":
        """The same with a marker in other words read as one, where the format was asked for."""
        rationale, answer, marked = read_answer(self.answer) if self.marker_missing else (None, "", False)
        update = {"rationale": rationale, "answer": answer, "marker_missing": False}
        return self.model_copy(update=update) if marked else self

    @property
    def whole(self) -> bool:
        """Whether it may be learned: it was written, to its end."""
        return self.finish_reason not in (CUT_OFF, TOO_LONG)


class Samples(Wire):
    """Several completions of one question, in the engine's order."""

    id: str
    completions: list[StudentCompletion]


class JudgeInput(Wire):
    """An attempt on its way to the judge. want_critique: ask for hints when it does not pass. item: the row's further fields, for
    graders whose templates or code name them."""

    id: str
    question: str
    answer: str
    rationale: str | None = None
    reference: str | None = None
    want_critique: bool = True
    item: Json | None = Field(default=None, exclude_if=_is_none)
    teacher_context: str | None = Field(default=None, exclude_if=_is_none)


class Verdict(Wire):
    """by: "grader" when a reference decided, "judge" when the strong model did, "unparsed" when it gave no verdict.

    "unanswered": there was no attempt to judge, because the question does not fit into the student's context; "cut_off": the
    attempt ended at its limit of tokens.
    """

    id: str
    passed: bool
    critique: str | None = None
    by: str
    leaked: bool = False  # the critique quoted the reference and was dropped
    call_id: str | None = None


class ComparisonInput(Wire):
    """Two answers to one question on their way to the judge."""

    id: str
    question: str
    first: str
    second: str
    reference: str | None = None
    teacher_context: str | None = Field(default=None, exclude_if=_is_none)


OVERALL = "overall"  # the criterion that decides


class Preference(Wire):
    """Per criterion what both orders agree on: "first", "second" or "tie". Orders that disagree make a tie, `flipped`.

    parsed: whether the judge gave a verdict in both orders; without one all is a tie.
    """

    id: str
    winners: dict[str, str]
    flipped: list[str] = Field(default=[])
    parsed: bool = True
    call_ids: list[str] = Field(default=[])


class AnswerScores(Wire):
    """Scores from 1 to 10 by criterion. parsed: whether the judge gave them; without them there are none."""

    id: str
    scores: dict[str, int]
    parsed: bool = True
    call_id: str | None = None


class Likelihood(Wire):
    """nll: mean negative log-likelihood of the completion's tokens under the student, in nats."""

    id: str
    nll: float
    tokens: int


class ParitySample(Wire):
    """One prompt answered greedily in float32 by base plus adapter and by the merged model. logit_max, logit_mean: how far
    their logits are apart, in absolute value, on the first one's tokens."""

    id: str
    adapter: str
    merged: str
    same: bool
    tokens: int
    logit_max: float
    logit_mean: float


class Grades(Wire):
    """Scores in [0, 1] by grader name."""

    id: str
    scores: dict[str, float]


class Sampled(Wire):
    """Several answers to one question, without their rationales, on their way to be grouped."""

    id: str
    texts: list[str]


class AnswerGroup(Wire):
    """members: places of the answers that are the same, the most usual text first. share: of all votes."""

    members: list[int]
    share: float


class Votes(Wire):
    """groups: the largest first. unread: places of answers that say nothing to the grader, so they are in no group."""

    id: str
    groups: list[AnswerGroup]
    unread: list[int] = Field(default=[])


class Example(Asked):
    """One row to train on: what is asked -> completion (rationale and marker included where it has them). weight: of its tokens in
    the loss."""

    completion: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, exclude_if=_is_one)


class PreferencePair(Asked):
    """Phase 3: the high-compute answer (chosen) against the low-compute one (rejected) of one model. cut_off: the sides that
    ended at their limit of tokens; such a pair is not learned. weight: of its loss. held_out: it is not trained on; what training
    did to it is measured. from_reference: the chosen side is the record's reference, because no sample passed."""

    chosen: str
    rejected: str
    cut_off: list[Side] = Field(default=[], exclude_if=_is_empty)
    weight: float = Field(default=1.0, gt=0, le=1, exclude_if=_is_one)
    held_out: bool = Field(default=False, exclude_if=_is_false)
    from_reference: bool = Field(default=False, exclude_if=_is_false)


def asked(question: Question, shows_calls: bool = True) -> Json:
    """The fields of `Asked`: the one way from a row of a file to what a student is asked, in every phase and measurement.

    shows_calls: whether the student's chat template shows calls of tools (`Bases.shows_calls`).
    """
    fields: Json = {"id": question.id, "question": question.text}
    if question.messages is None:
        return fields
    conversation = student_conversation(question.messages, question.tools or (), shows_calls)
    return fields | {"conversation": conversation}


def asked_of_teacher(question: Question) -> Json:
    """The fields of `TeacherInput` that say what is asked."""
    fields: Json = {"id": question.id, "question": question.text, "teacher_context": question.teacher_context}
    if question.messages is None:
        return fields
    return fields | {"conversation": teacher_conversation(question.messages, question.tools or ())}


def shot(question: Question, shows_calls: bool = True) -> Shot:
    """The row and its reference as a worked example."""
    reference = question.reference or ""
    if question.messages is None:
        return question.text, reference
    conversation = student_conversation(question.messages, question.tools or (), shows_calls)
    return answered(conversation, reference, shows_calls)


def judge_input(
    question: Question, answer: str, rationale: str | None = None, want_critique: bool = True
) -> JudgeInput:
    """What the judge is shown of a question and an answer."""
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
    """What graders are shown: the same without the material, which they do not need."""
    return judge_input(question, answer).model_copy(update={"teacher_context": None})


def comparison_input(question: Question, first: str, second: str) -> ComparisonInput:
    """What the judge is shown of a question and two answers."""
    return ComparisonInput(
        id=question.id,
        question=question.text,
        first=first,
        second=second,
        reference=question.reference,
        teacher_context=question.teacher_context,
    )


def student_messages(row: Asked) -> list[Json]:
    """The messages of a prompt without worked examples: the conversation's, or the bare question under the pinned system text."""
    return row.conversation.messages if row.conversation is not None else bare_question(row.question)
