"""Which fields of a request a provider's refusal names, the surest first. No I/O."""

import re
from collections.abc import Iterable, Iterator

from services.strong_model.gateway.said import Said
from shared.contracts.json_types import Json

NEEDED = frozenset(
    ("model", "messages", "tools", "tool_choice", "functions", "function_call", "audio", "modalities", "prediction")
)
PLAIN_WORDS = frozenset(  # fields only when quoted
    ("n", "stop", "user", "stream", "store", "metadata", "audio", "tools", "model", "messages")
)
REFUSED = re.compile(
    r"support|deprecat|unknown|unrecogni[sz]ed|unexpected|permitted|allowed|forbid|invalid|cannot|can't|can not|\bonly\b|must|"
    r"available|no longer|\bextra\b|extraneous|enabled|incompatible|removed|disabled|should|accept|expected|range|"
    r"too (?:large|big|high)|less than|at most|maximum|exceed|implemented|reserved|fixed|illegal|not a valid|"
    r"validation error|mandatory"
)
NAMED = (  # the field's name as group 1
    re.compile(r"unknown (?:name|field|parameter|argument)s?:? [\"'`]?([\w.]+)", re.IGNORECASE),
    re.compile(
        r"unrecogni[sz]ed (?:request )?(?:argument|parameter|field|key)s?(?: supplied)?:? [\"'`]?([\w.]+)",
        re.IGNORECASE,
    ),
    re.compile(r"[\"'\[(]loc[\"']: [\[(][\"']body[\"'], [\"'](\w+)", re.IGNORECASE),
    re.compile(r"\bbody(?:\.| -> )(\w+)"),
    re.compile(r"(?:parameter|argument|field|property|key|option|input)s?:? [\"'`]([\w.\[\]]+)[\"'`]", re.IGNORECASE),
    re.compile(
        r"(?:parameter|argument|field|property|key|option)s?(?:\(s\))?(?: on this model)?:? ?[\[{(]*[\"'`]?([\w.]+)",
        re.IGNORECASE,
    ),
    re.compile(r"not supported[\w ]*: ([\w.]+)", re.IGNORECASE),
    re.compile(r"\binvalid ([\w.]+):", re.IGNORECASE),
    re.compile(r"^([a-z_][\w.]*): (?:extra|input|field|unexpected|value|this)", re.IGNORECASE),
    re.compile(r"(?:^|[:;.] )([a-z_][\w.]*) (?:is|are|parameter|must|cannot|can't|should|not)\b", re.IGNORECASE),
    re.compile(r"\b([a-z_]\w*) ?= ?[\d\"'`]"),
    re.compile(r"[\"'`]([A-Za-z_][\w.]*)[\"'`]"),
)
MEANT = (  # words of refusals that name no field of the request -> the fields that they mean
    (
        re.compile(
            r"think(?:ing)? (?:level|budget|value|mode|config)|(?:support|enable|disable)\w* (?:thinking|reasoning)|"
            r"reasoning (?:value|level|is mandatory)|effort parameter|reasoning[_ .]effort|\bbudget \d+ is invalid"
        ),
        ("reasoning_effort",),
    ),
    (re.compile(r"\bpenalt(?:y|ies)\b"), ("presence_penalty", "frequency_penalty")),
)
_EXCLUDE = re.compile(r"both|together|only one|at the same time|not .{0,20}with")


def named_fields(words: Said, sent: Json) -> Iterator[str]:
    """Each is one of `sent`."""
    text = words.message.lower()
    for name in words.fields:
        if (field := _field_of(name, sent)) is not None:
            yield field
    if not REFUSED.search(text):
        return
    places: dict[str, int] = {}
    for pattern in NAMED:
        for match in pattern.finditer(words.message):
            if (field := _field_of(match.group(1), sent)) is not None:
                places.setdefault(field, match.start())
        if places:
            yield from _best(places, text)
            return
    for name in sent:
        match = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)
        if match and name not in PLAIN_WORDS:
            places[name] = match.start()
    yield from _best(places, text)
    for pattern, fields in MEANT:
        if pattern.search(text):
            yield from (name for name in fields if name in sent)


def _field_of(name: str, sent: Json) -> str | None:
    """The field of the request that a name means: "body.seed", "temperature", "messages[0].role", "presencePenalty"."""
    parts = [part for part in re.split(r"[.\[\]]+", name) if part and part != "body"]
    return next((field for field in _snake(parts) if field in sent), None)


def _snake(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield name
        yield re.sub(r"(?<=[a-z])[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def _best(places: dict[str, int], text: str) -> Iterator[str]:
    """In the order of the text; of two fields that exclude each other the second goes, as temperature says more."""
    names = sorted(places, key=lambda name: places[name])
    if {"temperature", "top_p"} <= set(names) and _EXCLUDE.search(text):
        names = ["top_p"]
    yield from (name for name in names if name not in NEEDED or len(names) == 1)
