"""vLLM's HTTP side without a model: `python -m tests.fakes.engine --port N --model NAME [--latency S --concurrency N]`.

Any model name is answered, so adapters need no loading. Where a rationale is asked for, the answer format's marker is kept.
"""

import random
from typing import Any

from shared.contracts.answer_format import MARKER
from tests.fakes.openai_server import digest, run
from tests.fakes.start import FakeServer, start_engine

__all__ = ["FakeServer", "answer", "start_engine"]

WORDS = [
    "list",
    "the",
    "files",
    "by",
    "size",
    "then",
    "sort",
    "them",
    "and",
    "keep",
    "only",
    "the",
    "first",
    "ten",
    "that",
    "match",
    "a",
    "name",
]


def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    seed = digest([*messages, {"model": body.get("model")}])
    dice = random.Random(seed)
    text = " ".join(dice.choice(WORDS) for _ in range(10)) + f" {seed % 1000}"
    asked = any(MARKER.strip() in str(message.get("content")) for message in messages)
    return f"It has to be done step by step.{MARKER} {text}" if asked else text


if __name__ == "__main__":
    run(answer, __doc__)
