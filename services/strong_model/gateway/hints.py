"""How long a provider wants to be left alone: read from the headers and the words of a refusal. No I/O.

Providers say it in many ways: seconds, dates, durations ("9m38s"), times of the clock, per kind of limit, or in a sentence.
"""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

DAY_S = 86_400.0
RECHECK_S = 3600.0  # a used up quota of a day whose end is not told is tried again so often, and at midnight (UTC)
EPOCH_S, EPOCH_MS = 1e9, 1e12  # larger numbers are times of the clock
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_UNIT = r"(ms|milliseconds?|msecs?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*{_UNIT}(?![a-z])", re.IGNORECASE)
_DURATION = re.compile(rf"(?:\d+(?:\.\d+)?\s*{_UNIT}(?![a-z])[\s,]*(?:and\s+)?)+", re.IGNORECASE)
_STAMP = r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?)"
# the words before a duration, and fields of an error's JSON
_SENTENCE = re.compile(
    r"(?:try(?:ing)?\s+again|retry(?:ing)?|wait(?:ing)?|resets?|available(?:\s+again)?|come\s+back|renew\w*|repeat)\b"
    rf"[^.\d\n]{{0,40}}?({_DURATION.pattern})",
    re.IGNORECASE,
)
_UNTIL = re.compile(rf"(?:reset\w*|again|until|after|available)\b[^\d\n]{{0,40}}?{_STAMP}", re.IGNORECASE)
_FIELD = re.compile(
    r"[\"'](?:retry_?delay|retry_?after(?:_?(?:seconds|secs|s|ms))?|reset_?(?:in|after)(?:_?seconds)?|wait_?seconds)[\"']\s*:\s*"
    r"[\"']?(\d+(?:\.\d+)?)\s*(ms|s|m|h)?",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"[\"'](?:x-)?ratelimit-reset[\w-]*[\"']\s*:\s*[\"']?([^\"',}]+)", re.IGNORECASE
)  # quoted in a body
_DAILY = re.compile(
    r"\b(?:per|a|each|every|this|in\s+one)[\s_-]*(?:day|month)\b|/ ?(?:day|month)\b|\b(?:daily|monthly)\b|Per(?:Day|Month)|\b(?:TPD|RPD)\b|\bper[\s-]*24\s*h",
    re.IGNORECASE,
)
_RESET = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:[\w-]+-)?reset(?:-[\w-]+)?", re.IGNORECASE)


def pause_s(headers: Mapping[str, str], text: str = "") -> float | None:
    """Seconds until the provider wants to be asked again; None where it does not say. text: the body of its refusal.

    A day's quota is not over after the seconds that providers put beside it for every refusal.
    """
    given = _retry_after(headers)
    if given is None:
        given = _said(text)
    if given is None:
        given = _reset(headers)
    if _DAILY.search(text) and (given is None or given < RECHECK_S / 12):
        return max(given or 0.0, min(RECHECK_S, DAY_S - time.time() % DAY_S))
    return given


def _retry_after(headers: Mapping[str, str]) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    return _seconds(headers.get("retry-after")) if milliseconds is None else max(0.0, milliseconds / 1000)


def _said(text: str) -> float | None:
    if field := _FIELD.search(text):
        name, unit = field[0].lower(), (field[2] or "").lower()
        return float(field[1]) * UNITS.get(unit or ("ms" if re.search(r"_?ms[\"']", name) else "s"), 1.0)
    if header := _HEADER.search(text):
        return _seconds(header[1])
    if sentence := _SENTENCE.search(text):
        return _duration(sentence[1])
    if stamp := _UNTIL.search(text):
        return _seconds(stamp[1])
    return None


def _reset(headers: Mapping[str, str]) -> float | None:
    """Of the limits whose remainder is 0 the last one to be set back; where none is told to be 0, the first one."""
    used_up, others = [], []
    for name, value in headers.items():
        limit = _RESET.fullmatch(name)
        seconds = _seconds(value) if limit else None
        if limit is None or seconds is None:
            continue
        left = _number(headers.get(re.sub("reset", "remaining", name, flags=re.IGNORECASE)))
        (used_up if left is not None and left <= 0 else others).append(seconds)
    return max(used_up) if used_up else min(others, default=None)


def _seconds(value: str | None) -> float | None:
    """From now on: of a number (seconds, or a time in seconds or milliseconds), a duration or a date."""
    text = (value or "").strip()
    number = _number(text)
    if number is not None:
        if number >= EPOCH_MS:
            number = number / 1000 - time.time()
        elif number >= EPOCH_S:
            number -= time.time()
        return max(0.0, number)
    if _DURATION.fullmatch(text):
        return _duration(text)
    for at in _dates(text):
        return max(0.0, at.timestamp() - time.time())
    return None


def _dates(text: str) -> Iterator[datetime]:
    for read in (
        lambda: datetime.fromisoformat(text.replace("UTC", "Z").replace(" Z", "Z")),
        lambda: parsedate_to_datetime(text),
    ):
        try:
            at = read()
        except (ValueError, TypeError, IndexError):
            continue
        yield at if at.tzinfo else at.replace(tzinfo=UTC)


def _duration(text: str) -> float:
    return sum(float(number) * UNITS[_short(unit)] for number, unit in _PART.findall(text))


def _short(unit: str) -> str:
    unit = unit.lower()
    return "ms" if unit.startswith(("ms", "milli")) else unit[0]


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None
