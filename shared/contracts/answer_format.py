"""The one prompt and the one answer format, used by training, evaluation and chat alike."""

MARKER = "\nAnswer:"  # stands between rationale and answer in everything the student writes with reasoning


def student_messages(question: str) -> list[dict[str, str]]:
    """The bare question under a pinned system text.

    SmolLM2's and Qwen's chat templates add a system text of their own when there is none, so what is used is pinned.
    """
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


SYSTEM = "Answer the question."


def join_answer(rationale: str | None, answer: str) -> str:
    """A completion in the answer format; without a rationale it is the answer alone."""
    return f"{rationale.strip()}{MARKER} {answer.strip()}" if rationale and rationale.strip() else answer.strip()


def split_answer(text: str) -> tuple[str | None, str]:
    """(rationale, answer). Without the marker all of it is the answer; the last marker counts."""
    rationale, marker, answer = f"\n{text}".rpartition(MARKER)
    if not marker:
        return None, text.strip()
    return rationale.strip() or None, answer.strip()
