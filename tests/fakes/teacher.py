"""A teacher and judge without a model: `python -m tests.fakes.teacher --port N --log FILE [--api-key K] [--latency S]`.

A known correct answer in the prompt is returned; a JSON schema is met (verdicts pass in a fixed share); else words drawn
from the messages' hash.
"""

import json
import random
import re
from typing import Any

from tests.fakes import proposer
from tests.fakes.openai_server import digest, run
from tests.fakes.schema_values import value_for
from tests.fakes.start import FakeServer, start_teacher

__all__ = ["FakeServer", "answer", "start_teacher"]

KNOWN = re.compile(r"^known correct answer:[ ]*(.+?)(?:\n\n|\Z)", re.IGNORECASE | re.DOTALL | re.MULTILINE)
WORDS = [
    "gradient",
    "layer",
    "weight",
    "batch",
    "token",
    "index",
    "query",
    "cache",
    "vector",
    "margin",
    "kernel",
    "tensor",
    "loss",
    "path",
    "field",
    "scale",
]


def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    proposed = proposer.reply_to(messages, body)
    if proposed is not None:
        return proposed
    seed = digest(messages)
    format_ = body.get("response_format") or {}
    if format_.get("type") == "json_schema":
        return json.dumps(value_for(format_["json_schema"]["schema"], seed))
    known = KNOWN.search(str(messages[-1].get("content")))
    if known:
        return known.group(1).strip()
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(12)) + f" {seed % 10_000}"


if __name__ == "__main__":
    run(answer, __doc__)
