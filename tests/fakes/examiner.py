"""A strong model that writes questions: `python -m tests.fakes.examiner`, options as tests.fakes.teacher.

Of each source it asks for its numbered facts ("Fact 7 about bees is ..."): a good question for each, one that points at the text, and one that
the source does not answer, to which it says no when asked to check.
"""

import json
import re
from typing import Any

from tests.fakes import proposer
from tests.fakes.openai_server import run

FACT = re.compile(r"Fact (\d+) about (\w+)")


def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    text = str(messages[-1]["content"])
    proposed = proposer.reply_to(messages, body)
    if proposed is not None:
        return proposed
    if "\n\nQuestion: " in text:
        return "No." if "unanswerable" in text else "Yes."
    if "UNREADABLE" in text:
        return "I would rather not."
    if "RAMBLING" in text:
        return "Let me think about it. " * 200
    asked = [f"What does fact {number} say about {what}?" for number, what in FACT.findall(text)]
    asked += ["What does this passage say about it?", "Which unanswerable thing is not mentioned at all?"]
    return f"Here they are:\n```json\n{json.dumps(asked)}\n```"


if __name__ == "__main__":
    run(answer, __doc__)
