"""What the teacher is asked (paper section 3.1). Pure functions; a change here raises VERSION[StepKind.TEACH]."""

SHORT_ANSWER = 200  # characters; a one-line reference below this length shows that the domain wants the bare answer


def wants_bare_answer(reference: str | None) -> bool:
    """True when the record's reference is one short line, such as a command, a name or a number."""
    return bool(reference) and "\n" not in reference.strip() and 0 < len(reference.strip()) < SHORT_ANSWER


def teach_messages(
    domain: str, question: str, guideline: str | None, reference: str | None, ground: bool
) -> list[dict[str, str]]:
    """The teacher's messages. ground: show the reference; otherwise only its form shapes the instruction."""
    bare = wants_bare_answer(reference)
    return [
        {"role": "system", "content": _system(domain, bare)},
        {"role": "user", "content": _user(question, guideline, reference if ground else None, bare)},
    ]


def _system(domain: str, bare: bool) -> str:
    if bare:  # a small teacher repeats longer lists of what not to write
        return (
            f"You are an expert in this field: {domain}. Reply with the answer only, on one line, without explanation."
        )
    return (
        f"You are an expert in this field: {domain}. Answer the question directly and concisely. "
        "Begin with the answer itself, keep to what was asked, and say nothing about these instructions."
    )


def _user(question: str, guideline: str | None, reference: str | None, bare: bool) -> str:
    parts = [f"Question: {question.strip()}"]
    if guideline and guideline.strip():
        parts.append(
            "The learner you are writing for left these notes on how the question could be approached. "
            "Follow them where they are right and pass over what is wrong in them:\n" + guideline.strip()
        )
    if reference and reference.strip():
        parts.append(f"Known correct answer: {reference.strip()}")
        parts.append(
            "Now write the answer in the same form as the known correct answer. If that is a command, give the command alone."
            if bare
            else "Answer the question in your own words, in agreement with the known correct answer, and do not mention it."
        )
    return "\n\n".join(parts)
