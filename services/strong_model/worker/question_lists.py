"""Lists of questions or topics in a strong model's reply, and which of them can be used."""

import re
from typing import Any

from shared.contracts import loose_json
from shared.contracts.coverage import Unread

POINTS_AT_TEXT = re.compile(
    r"\b(?:this|the|above|following|given|provided)\s+(?:passage|text|document|section|excerpt|article|paragraph)\b"
    r"|\baccording to the (?:author|passage|text|document)\b",
    re.IGNORECASE,
)
LONGEST, SHORTEST = 400, 12  # letters of a question
LONGEST_TOPIC = 120
_NUMBERED = re.compile(r"^\s*(?:[-*\u2022]|(?:Q(?:uestion)?\s*)?\d+[.):])\s*", re.IGNORECASE)


def read_questions(reply: str, cut_off: bool = False) -> list[str] | None:
    """The questions of the last list in a reply, or its lines that end in a question mark; None when there are neither.

    cut_off: the reply ended at its token limit, so what it ended in counts only if it is a whole question.
    """
    for value in reversed(loose_json.values(reply, "[", cut_off)):
        questions = [text for item in _items(value) if (text := _question(item))]
        if cut_off and questions and not questions[-1].endswith("?"):
            questions.pop()
        if questions:
            return questions
    lines = [_NUMBERED.sub("", line).strip(' *\t"') for line in loose_json.without_reasoning(reply).splitlines()]
    return [line for line in lines if line.endswith("?")] or None


def _items(value: Any) -> list[Any]:
    """A list as it is; of an object the first list in it."""
    if isinstance(value, dict):
        value = next((part for part in value.values() if isinstance(part, list)), [])
    return value if isinstance(value, list) else []


def _question(item: Any) -> str:
    """A string, or the first one of an object such as {"question": "..."}."""
    if isinstance(item, dict):
        item = item.get("question") or next((part for part in item.values() if isinstance(part, str)), "")
    return item.strip() if isinstance(item, str) else ""


def usable(question: str) -> bool:
    """Whether the question can be asked without the passage."""
    return SHORTEST <= len(question) <= LONGEST and not POINTS_AT_TEXT.search(question)


def read_topics(reply: str, cut_off: bool = False) -> list[str] | None:
    """The topics of the last list in a reply, or its numbered lines; None when there are neither."""
    for value in reversed(loose_json.values(reply, "[", cut_off)):
        topics = [text for item in _items(value) if (text := _named(item))]
        if topics:
            return topics[:-1] if cut_off and len(topics) > 1 else topics
    lines = loose_json.without_reasoning(reply).splitlines()
    numbered = [_NUMBERED.sub("", line) for line in lines if _NUMBERED.match(line)]
    return [
        topic for line in numbered if (topic := re.split(r"\s+[-\u2013\u2014]\s+|:\s", line)[0].strip(' *\t"'))
    ] or None


def _named(item: Any) -> str:
    if isinstance(item, dict):
        item = (
            item.get("topic") or item.get("name") or next((part for part in item.values() if isinstance(part, str)), "")
        )
    return item.strip() if isinstance(item, str) else ""


def usable_topic(topic: str) -> bool:
    return 2 <= len(topic) <= LONGEST_TOPIC and "\n" not in topic and not topic.endswith("?")


def unread(reply: str, cut_off: bool) -> Unread:
    """Why a reply has no list."""
    return "cut_off" if cut_off else "unreadable" if loose_json.without_reasoning(reply) else "empty"
