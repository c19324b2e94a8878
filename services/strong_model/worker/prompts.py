"""What the teacher is asked (paper section 3.1). Pure functions; a change here raises the version of StepKind.TEACH, one of the
rules for a rationale RATIONALE_VERSION."""

from collections.abc import Iterator

from shared.contracts.answer_format import MARKER
from shared.contracts.conversation import Conversation, framed
from shared.contracts.json_types import Json
from shared.contracts.tool_calls import read_answer

SHORT_ANSWER = 200  # characters; a one-line reference below this length shows that the domain wants the bare answer


def wants_bare_answer(reference: str | None) -> bool:
    """True when the record's reference is one short line, such as a command, a name or a number."""
    return bool(reference) and "\n" not in reference.strip() and 0 < len(reference.strip()) < SHORT_ANSWER


def teach_messages(
    domain: str,
    question: str,
    guideline: str | None,
    reference: str | None,
    ground: bool,
    conversation: Conversation | None = None,
    rationale: bool = False,
) -> list[Json]:
    """The teacher's messages. ground: show the reference; otherwise only its form shapes the instruction. rationale: ask for a short
    reasoning and the marker before the answer.

    conversation: asked instead of the question, as it is; the teacher answers its last message in the assistant's place. The
    learner's notes and the known answer stand below that message.
    What all questions of a job share stands first: providers and vLLM compute such a beginning once and keep it.
    """
    notes = (guideline or "").strip()
    known = (reference or "").strip() if ground else ""
    if conversation is not None:
        calls = bool(conversation.tools) and bool(read_answer(reference or "", conversation.names)[1])
        bare = wants_bare_answer(reference) and not calls
        rules = " ".join([*_rules(domain, bare, bool(notes), bool(known), rationale), *_in_conversation(conversation)])
        return framed(conversation, rules, _notes(notes, known))
    bare = wants_bare_answer(reference)
    return [
        {"role": "system", "content": " ".join(_rules(domain, bare, bool(notes), bool(known), rationale))},
        {"role": "user", "content": _material(question, notes, known)},
    ]


def reasons(conversation: Conversation | None) -> bool:
    """Whether a rationale may stand before the answer: where tools are offered a call is the whole of an answer."""
    return conversation is None or not conversation.tools


def _rules(domain: str, bare: bool, noted: bool, grounded: bool, rationale: bool = False) -> Iterator[str]:
    yield f"You are an expert in this field: {domain}."
    if rationale:
        # "only the answer, without explanation" for the last line: a small teacher leaves the reasoning out too
        yield "First write how the answer is reached, in one to three short lines."
        if bare:
            yield f'Then write a last line that begins with "{MARKER.strip()}" and has nothing but the answer after it.'
        else:
            yield f'Then start a new line with "{MARKER.strip()}" and write the answer after it, concise and complete in itself.'
            yield "Say nothing about these instructions."
    elif bare:  # a small teacher repeats longer lists of what not to write
        yield "Reply with the answer only, on one line, without explanation."
    else:
        yield "Answer the question directly and concisely. Begin with the answer itself, keep to what was asked,"
        yield "and say nothing about these instructions."
    if noted:
        yield "The learner you are writing for left notes on how the question could be approached."
        yield "Follow them where they are right and pass over what is wrong in them."
    if grounded and rationale:
        yield "Reason as if you were finding the answer yourself: do not mention that a correct answer is known."
    if grounded and bare:
        yield "Write the answer in the same form as the known correct answer. If that is a command, give the command alone."
    elif grounded:
        yield "Use your own words, in agreement with the known correct answer, and do not mention it."


def _in_conversation(conversation: Conversation) -> Iterator[str]:
    yield "You are the assistant of this conversation: answer its last message."
    if conversation.tools:
        yield "Where a tool is needed, call it instead of describing the call."
    if conversation.head:
        yield "The instructions of the assistant follow."


def _material(question: str, notes: str, known: str) -> str:
    return "\n\n".join(filter(None, [f"Question: {question.strip()}", _notes(notes, known)]))


def _notes(notes: str, known: str) -> str:
    parts = [f"The learner's notes: {notes}"] if notes else []
    if known:
        parts.append(f"Known correct answer: {known}")
    return "\n\n".join(parts)
