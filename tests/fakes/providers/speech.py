"""What a simulated provider's model says: a known answer, a verdict, or words drawn from the question."""

import json
import re
from typing import Any

from tests.fakes.openai_server import digest
from tests.fakes.schema_values import value_for
from tests.fakes.teacher import KNOWN, answer

FORM = re.compile(r"Reply with one JSON object only: \{(.+?)\}\.")
FIELD = re.compile(r'"(\w+)": ')
BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)


def texts(messages: list[dict[str, Any]]) -> str:
    """All turns as one text; a turn's content may be a list of parts."""
    return "\n\n".join(_text(message.get("content")) for message in messages)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def say(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    """The model's answer. A judge is right about an answer that equals its reference, and prefers neither of two answers."""
    asked = texts(messages)
    wanted = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    form = FORM.search(asked)
    if not wanted and not form:
        known = KNOWN.search(asked)
        return known.group(1).strip() if known else answer(messages, {})
    fields = list(wanted.get("properties", {})) if wanted else FIELD.findall(form.group(1) + " ") if form else []
    blocks = dict(BLOCK.findall(asked))
    if "answer_a" in blocks:
        return json.dumps(dict.fromkeys(fields, "tie"))
    reply = value_for(wanted, digest(messages)) if wanted else dict.fromkeys(fields, 5)
    right = blocks.get("answer") == blocks.get("reference")
    reply |= {
        name: value
        for name, value in {"correct": right, "critique": "" if right else "Look again."}.items()
        if name in reply
    }
    return json.dumps(reply)
