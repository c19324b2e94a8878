"""The one prompt and the one answer format, used by training, evaluation and chat alike."""

import re

CUT_OFF = "length"  # OpenAI's finish_reason of a text that ended at its limit of tokens: none is ever learned
MARKER = "\nAnswer:"  # stands between rationale and answer in everything the student writes with reasoning
# What models write in its place when they are asked for it: **Answer:**, Final answer:, ANSWER -, ### Answer, The answer is:
_LENIENT = re.compile(
    r"""(?: ^[ \t>#*_]* | (?<=[.!?][ ])[*_]{0,3} )
        (?:therefore,?\ |so,?\ )? (?:(?:the|my)\ )? (?:(?:final|correct|short)\ )?
        (?:answer|antwort|r\u00e9ponse|respuesta|risposta|resposta|\u043e\u0442\u0432\u0435\u0442|\u7b54\u6848|\u7b54\u3048)
        (?: [ \t*_]*(?:\ is|\ ist|\ est|\ es)?[ \t*_]*[:\uff1a][ \t*_]* | [ \t*_]+[-\u2013\u2014][ \t*_]+ | [*_]{0,3}[ \t]*$ )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


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


def read_answer(text: str) -> tuple[str | None, str, bool]:
    """(rationale, answer, whether a marker stands between them) of a text by somebody who was asked for the answer format: other ways
    to write the marker count too. Of several markers the last one that an answer follows counts."""
    for marker in reversed([*_LENIENT.finditer(text)]):
        answer = text[marker.end() :].strip()
        if marker.group().count("**") % 2:
            answer = answer.removesuffix("**").strip()  # **Answer: 42**
        if answer:
            return text[: marker.start()].strip() or None, answer, True
    return None, text.strip(), False
