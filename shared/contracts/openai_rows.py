"""OpenAI's chat rows as question, context and reference, and its pairs of a preferred and another answer. Pure functions, no I/O.

The last user message is the question and an assistant message after it the reference. What stands before it (system texts
and earlier turns) is material that the answer depends on, so it becomes the question's context: a row without it would ask for
something else.
"""

from collections.abc import Mapping
from typing import Any

SYSTEM = ("system", "developer")
SPEAKERS = {"user": "User", "assistant": "Assistant"}
NO_TEXT = ("tool_calls", "function_call", "audio")  # an answer made of these is none in words


class NotUsable(ValueError):
    """where: the dotted name of the message that cannot be used. Its text says what is expected there."""

    def __init__(self, where: str, message: str):
        super().__init__(f"{where}: {message}")
        self.where = where


PREFERENCE = ("input", "preferred_output", "non_preferred_output")  # fields of a row of OpenAI's preference format


def from_preference(row: Mapping[str, Any]) -> dict[str, str | None]:
    """{question, context, reference, rejected} of a row in OpenAI's preference format. Raises NotUsable."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise NotUsable("input", 'an object {"messages": [...]} is expected')
    question = from_messages(asked.get("messages"), "input.messages")
    if question["reference"] is not None:
        raise NotUsable("input.messages", "the last message must be the user's; the answers stand in the outputs")
    preferred, other = (_output(name, row.get(name)) for name in PREFERENCE[1:])
    return question | {"reference": preferred, "rejected": other}


def _output(name: str, messages: Any) -> str:
    """The text of the assistant's one message."""
    if not isinstance(messages, list) or len(messages) != 1:
        raise NotUsable(name, "a list of one message of the role assistant is expected")
    role, text, _ = _turn(f"{name}.0", messages[0])
    if role != "assistant":
        raise NotUsable(f"{name}.0.role", f"{role!r} is not assistant")
    if not text.strip():
        raise NotUsable(f"{name}.0.content", "an answer is expected, not a blank")
    return text


def from_messages(messages: Any, where: str = "messages") -> dict[str, str | None]:
    """{question, context, reference}. where: their place in the row, for errors. Raises NotUsable."""
    if not isinstance(messages, list) or not messages:
        raise NotUsable(where, "a list of {role, content} objects is expected")
    turns = [_turn(f"{where}.{number}", message) for number, message in enumerate(messages)]
    users = [number for number, (role, _, _) in enumerate(turns) if role == "user"]
    if not users:
        raise NotUsable(where, "no message of the role user, so there is no question")
    asked = users[-1]
    before, after = turns[:asked], [turn for turn in turns[asked + 1 :] if turn[0] == "assistant"]
    late = [turn for turn in turns[asked + 1 :] if turn[0] in SYSTEM]
    reference = after[-1][1] if after and after[-1][2] else None
    return {"question": turns[asked][1], "context": _context(before + late + after[:-1]), "reference": reference}


def _turn(where: str, message: Any) -> tuple[str, str, bool]:
    """(role, text, whether it is to be learned from: OpenAI's `weight` 0 says no)."""
    if not isinstance(message, dict):
        raise NotUsable(where, "an object with role and content is expected")
    role = message.get("role")
    if not isinstance(role, str) or (role not in SPEAKERS and role not in SYSTEM):
        raise NotUsable(f"{where}.role", f"{str(role)[:50]!r} is not one of system, developer, user, assistant")
    unsupported = next((name for name in NO_TEXT if message.get(name)), None)
    if unsupported:
        raise NotUsable(
            f"{where}.{unsupported}", "only texts can be trained on; leave the row out, or write the answer as text"
        )
    return role, _text(f"{where}.content", message.get("content")), message.get("weight") != 0


def _text(where: str, content: Any) -> str:
    """A text, or OpenAI's list of text parts joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NotUsable(where, "a text is expected")
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise NotUsable(f"{where}.{number}", 'only parts of the form {"type": "text", "text": ...} can be used')
    return "\n\n".join(part["text"] for part in content)


def _context(turns: list[tuple[str, str, bool]]) -> str | None:
    """System texts as they are, then the earlier turns with their speakers; None when there are none."""
    parts = [text for role, text, _ in turns if role in SYSTEM and text.strip()]
    spoken = [f"{SPEAKERS[role]}: {text}" for role, text, _ in turns if role in SPEAKERS]
    if spoken:
        parts.append("The conversation so far:\n" + "\n".join(spoken))
    return "\n\n".join(parts) or None
