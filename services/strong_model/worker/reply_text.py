"""The text of a strong model's reply."""

import re

from shared.contracts.loose_json import without_reasoning

_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_TICKS = re.compile(r"\A`([^`\n]+)`\Z")


def clean(text: str) -> str:
    """Without a reasoning block before the answer and without one fence or pair of backticks around all of it."""
    text = without_reasoning(text).strip()
    for around in (_FENCE, _TICKS):
        wrapped = around.match(text)
        if wrapped and "```" not in wrapped.group(1):
            return wrapped.group(1).strip()
    return text
