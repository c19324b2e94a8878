"""What the teacher is asked (paper section 3.1). Pure functions; a change here raises the version of StepKind.TEACH."""

from collections.abc import Iterator

SHORT_ANSWER = 200  # characters; a one-line reference below this length shows that the domain wants the bare answer


def wants_bare_answer(reference: str | None) -> bool:
    """True when the record's reference is one short line, such as a command, a name or a number."""
    return bool(reference) and "\n" not in reference.strip() and 0 < len(reference.strip()) < SHORT_ANSWER


def teach_messages(
    domain: str, question: str, guideline: str | None, reference: str | None, ground: bool
) -> list[dict[str, str]]:
    """The teacher's messages. ground: show the reference; otherwise only its form shapes the instruction.

    What all questions of a job share stands first: providers and vLLM compute such a beginning once and keep it.
    """
    bare = wants_bare_answer(reference)
    notes = (guideline or "").strip()
    known = (reference or "").strip() if ground else ""
    return [
        {"role": "system", "content": " ".join(_rules(domain, bare, bool(notes), bool(known)))},
        {"role": "user", "content": _material(question, notes, known)},
    ]


def _rules(domain: str, bare: bool, noted: bool, grounded: bool) -> Iterator[str]:
    yield f"You are an expert in this field: {domain}."
    if bare:  # a small teacher repeats longer lists of what not to write
        yield "Reply with the answer only, on one line, without explanation."
    else:
        yield "Answer the question directly and concisely. Begin with the answer itself, keep to what was asked,"
        yield "and say nothing about these instructions."
    if noted:
        yield "The learner you are writing for left notes on how the question could be approached."
        yield "Follow them where they are right and pass over what is wrong in them."
    if grounded and bare:
        yield "Write the answer in the same form as the known correct answer. If that is a command, give the command alone."
    elif grounded:
        yield "Use your own words, in agreement with the known correct answer, and do not mention it."


def _material(question: str, notes: str, known: str) -> str:
    parts = [f"Question: {question.strip()}"]
    if notes:
        parts.append(f"The learner's notes: {notes}")
    if known:
        parts.append(f"Known correct answer: {known}")
    return "\n\n".join(parts)
