"""The text of a strong model's reply."""

import re

_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_TICKS = re.compile(r"\A`([^`\n]+)`\Z")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def clean(text: str) -> str:
    """Without a reasoning block before the answer and without one fence or pair of backticks around all of it."""
    text = _THOUGHT.sub("", text, count=1).strip()
    for around in (_FENCE, _TICKS):
        wrapped = around.match(text)
        if wrapped and "```" not in wrapped.group(1):
            return wrapped.group(1).strip()
    return text
