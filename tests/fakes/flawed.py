"""A strong model with planted errors: `python -m tests.fakes.flawed`, options as tests.fakes.teacher.

Shown the correct answer it still teaches something wrong in WRONG of the questions and refuses in REFUSED; which ones
depends on the question alone. As a judge of one answer it is right; of two it prefers the one it is shown first.
"""

import json
import re
from typing import Any

from tests.fakes.openai_server import digest, run
from tests.fakes.schema_values import value_for
from tests.fakes.teacher import KNOWN

REFUSED, WRONG = 0.05, 0.2
REFUSAL = "I'm sorry, I can't help with that."
QUESTION = re.compile(r"^Question: (.+)$", re.MULTILINE)
BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)


def lesson(question: str, known: str) -> str:
    """What it teaches; three kinds, told apart by how the text begins."""
    seed = digest([{"role": "user", "content": question}])
    place = seed % 1000 / 1000
    if place < REFUSED:
        return REFUSAL
    return f"wrong {seed}" if place < REFUSED + WRONG else known


def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    text = str(messages[-1]["content"])
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
    fields = schema.get("properties", {})
    if not fields:
        known, question = KNOWN.search(text), QUESTION.search(text)
        assert known is not None, text
        assert question is not None, text
        return lesson(question.group(1), known.group(1).strip())
    blocks = dict(BLOCK.findall(text))
    if "answer_a" in blocks:
        return json.dumps(dict.fromkeys(fields, "A"))
    reply = value_for(schema, digest(messages))
    if "correct" in fields:
        reply["correct"] = blocks["answer"] == blocks["reference"]
    if "critique" in fields:
        reply["critique"] = "Look at it once more."
    return json.dumps(reply)


if __name__ == "__main__":
    run(answer, __doc__)
