"""The value that a provider allows in place of the one that it refused, read from the words of its refusal. No I/O."""

import re

LEVELS = {  # of the fields whose values are words, weakest first
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": ("low", "medium", "high"),
}
RANGED = ("temperature", "top_p")
LEAST = 0.01  # in place of 0 where a number must be above it
_LIST = re.compile(
    r"(?:supported|valid|allowed|accepted|possible|available) (?:values|levels|options)|must be|should be|one of|expected"
)
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_RANGE = re.compile(
    rf"(?P<open>[(\[]) ?{_NUMBER} ?(?:,|-|to|\.\.) ?{_NUMBER} ?[)\]]|between {_NUMBER} and {_NUMBER}|{_NUMBER} ?\.\. ?{_NUMBER}"
)
_POSITIVE = re.compile(r"strictly positive|(?:>|greater than|above|larger than) 0(?!\.\d)")
_AT_MOST = re.compile(rf"(?:<=|at most|less than or equal to|not (?:be )?(?:exceed|greater than)) {_NUMBER}")
_AT_LEAST = re.compile(rf"(?:>=|at least|greater than or equal to|minimum (?:of|is|value is)) {_NUMBER}")


def nearest(field: str, value: object, text: str) -> str | float | None:
    """The allowed value that is nearest to the refused one; None where the refusal names none. text: lower case."""
    if field in LEVELS:
        return _level(LEVELS[field], str(value), text)
    if field in RANGED and isinstance(value, int | float):
        return _number(float(value), text)
    return None


def _level(levels: tuple[str, ...], value: str, text: str) -> str | None:
    """As near as can be; of two as near the weaker one, which costs less."""
    start = _LIST.search(text)
    if start is None or value not in levels:
        return None
    named = set(re.findall(r"[\"'`]?\b([a-z]+)\b[\"'`]?", text[start.end() :]))
    allowed = [level for level in levels if level in named and level != value]
    wanted = levels.index(value)
    if value != "none" and len(allowed) > 1:
        allowed = [level for level in allowed if level != "none"]  # reasoning was asked for
    return min(allowed, key=lambda level: (abs(levels.index(level) - wanted), levels.index(level)), default=None)


def _number(value: float, text: str) -> float | None:
    if value <= 0 and _POSITIVE.search(text):
        return LEAST
    if match := _RANGE.search(text):
        low, high = (float(number) for number in re.findall(_NUMBER, match.group()))
        low = LEAST if match["open"] == "(" and low == 0 else low
        return low if value < low else high if value > high else None
    if (match := _AT_LEAST.search(text)) and value < float(match.group(1)):
        return float(match.group(1))
    if match := _AT_MOST.search(text):
        return float(match.group(1)) if value > float(match.group(1)) else None
    return None
