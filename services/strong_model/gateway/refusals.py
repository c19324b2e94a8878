"""Which change of a request its provider's refusal asks for. No I/O.

The refused field is the one that the error names, else one that its words name; a field that the caller cannot do without,
or that the operator has set, is never dropped.
"""

import re
import time
from collections.abc import Collection, Iterator

from services.strong_model.gateway.adapt import LIMITS, Rule, alternating, format_type
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.said import Said
from shared.contracts.json_types import Json

NEEDED = frozenset(
    ("model", "messages", "tools", "tool_choice", "functions", "function_call", "audio", "modalities", "prediction")
)
REFUSING = frozenset({400, 404, 405, 415, 422, 500, 501})  # HTTP statuses that refuse a parameter; 500: templates
SERVER = 500
PLAIN_WORDS = frozenset(("n", "stop", "user", "stream", "store", "metadata", "audio", "tools"))  # only when quoted
REFUSED = re.compile(
    r"support|deprecat|unknown|unrecogni[sz]ed|unexpected|permitted|allowed|forbid|invalid|cannot|can't|can not|\bonly\b|must|"
    r"available|no longer|\bextra\b|enabled|incompatible|removed|disabled|should|accept|expected|range|too (?:large|big|high)|"
    r"less than|at most|maximum|exceed|implemented|reserved|fixed"
)
NAMED = (  # the field's name as group 1
    re.compile(r"unknown (?:name|field|parameter|argument)s?:? [\"'`]?([\w.]+)", re.IGNORECASE),
    re.compile(
        r"unrecogni[sz]ed (?:request )?(?:argument|parameter|field|key)s?(?: supplied)?:? [\"'`]?([\w.]+)",
        re.IGNORECASE,
    ),
    re.compile(r"(?:parameter|argument|field|property|key|option|input)s?:? [\"'`]([\w.\[\]]+)[\"'`]", re.IGNORECASE),
    re.compile(r"\binvalid ([\w.]+):", re.IGNORECASE),
    re.compile(r"^([a-z_][\w.]*): (?:extra|input|field|unexpected|value|this)", re.IGNORECASE),
    re.compile(r"(?:^|[:;.] )([a-z_][\w.]*) (?:is|are|parameter|must|cannot|can't|should|not)\b", re.IGNORECASE),
    re.compile(r"[\"'`]([A-Za-z_][\w.]*)[\"'`]"),
)
SYSTEM = re.compile(
    r"(?:system|developer)(?:[ _-](?:role|messages?|prompts?|instructions?))?[\"'`]?.{0,40}?(?:not|n't|un)[ -]?.{0,12}?"
    r"(?:support|allow|enable|permit|accept|valid)|(?:not|n't|un)[ -]?.{0,30}?(?:support|allow|accept)\w*[ :]+.{0,40}?\bsystem\b|"
    r"role.{0,60}[\"'`]system[\"'`]|only (?:the )?[\"'`]?user[\"'`]? and [\"'`]?assistant[\"'`]?|(?:unknown|invalid|unexpected) (?:message )?role"
)
ALTERNATE = re.compile(
    r"roles? must alternate|alternat\w+ .{0,20}user|expected last role|consecutive .{0,30}(?:role|message|turn)|first message .{0,30}user"
)
ONLY_STREAMS = re.compile(
    r"only supports? stream|enable (?:the )?stream|stream\w*.{0,20} (?:is )?(?:required|must be (?:true|enabled|set))|non-stream\w* .{0,40}not|must .{0,20}stream"
)
UNFINISHED = re.compile(
    r"(?:max_tokens|max_completion_tokens|output limit|model output).{0,60}(?:was|is|been) reached|could not finish"
)
TOO_SMALL = re.compile(r"at least|minimum|greater than|>=|too (?:small|low)|below")
CONTEXT = re.compile(
    r"(?:context (?:length|window|size)|context)[^.\d]{0,40}?([\d,]+) tokens|max_model_len[^\d]{0,20}([\d,]+)"
)
PROMPT = re.compile(
    r"([\d,]+) (?:tokens )?(?:in|of|from) (?:the |your |text )?(?:messages|prompt|input)|([\d,]+) (?:input|prompt) tokens|prompt contains .{0,20}?([\d,]+)"
)
NUMBER = re.compile(r"(?<![\w.-])\d[\d,]*(?![\w.]*[a-z])")


def change_for(status: int, words: Said, sent: Json, provider: Provider, tried: Collection[Rule] = ()) -> Rule | None:
    """The change to try next; None where this refusal asks for none that is allowed. tried: those that made `sent`."""
    text = words.message.lower()
    if status not in REFUSING:
        return None
    rule = _turns(text, words, sent)
    if rule is None and status < SERVER:
        rule = _limit(text, words, sent) or _streamed(text, sent) or _field(text, words, sent, provider)
    if rule is not None and rule.action == "rename" and any(other.value == rule.field for other in tried):
        rule = Rule(field=rule.field, action="omit")  # neither name is taken
    if rule is None or any(other.key == rule.key and other.value == rule.value for other in tried):
        return None
    return rule.model_copy(update={"at": time.time()})


def no_room(words: Said) -> bool:
    """The refusal says that the answer's limit was too small for the reasoning."""
    return bool(UNFINISHED.search(words.message.lower()))


def _turns(text: str, words: Said, sent: Json) -> Rule | None:
    roles = {turn.get("role") for turn in sent["messages"]}
    if "developer" in roles and ("developer" in text or any(name.endswith("role") for name in words.fields)):
        return Rule(field="messages", action="role", value="system", of="developer")
    by_name = any(re.fullmatch(r"messages[.\[]\d+\]?\.role", name) for name in words.fields)
    if "system" in roles and (by_name or SYSTEM.search(text)):
        return Rule(field="messages", action="fold", value="user")
    if not ALTERNATE.search(text):
        return None
    if alternating(sent["messages"]) != sent["messages"]:
        return Rule(field="messages", action="merge")
    return Rule(field="messages", action="fold", value="user") if "system" in roles else None


def _limit(text: str, words: Said, sent: Json) -> Rule | None:
    """A limit that is more than the model writes, or than the prompt leaves of its context."""
    name = next((name for name in LIMITS if isinstance(sent.get(name), int)), None)
    if name is None:
        return None
    asked = sent[name]
    context, prompt = CONTEXT.search(text), PROMPT.search(text)
    if context and prompt:
        left = _number(context) - _number(prompt)
        return Rule(field=name, action="limit", value=left, once=True) if 0 < left < asked else None
    about = any(limit in text or limit in words.fields for limit in LIMITS) or "completion tokens" in text
    if not about or TOO_SMALL.search(text):
        return None
    numbers = [int(number.replace(",", "")) for number in NUMBER.findall(text)]
    smaller = [number for number in numbers if 1 < number < asked]
    return (
        Rule(field=name, action="limit", value=max(smaller))
        if (asked in numbers and smaller) or _at_most(text, smaller)
        else None
    )


def _at_most(text: str, smaller: list[int]) -> bool:
    return (
        bool(smaller)
        and re.search(r"at most|up to|maximum|less than|<=|too (?:large|big|high)|range|exceed", text) is not None
    )


def _number(match: re.Match[str]) -> int:
    return int(next(group for group in match.groups() if group).replace(",", ""))


def _streamed(text: str, sent: Json) -> Rule | None:
    if not sent.get("stream") and ONLY_STREAMS.search(text):
        return Rule(field="stream", action="stream", value=1)
    return None


def _field(text: str, words: Said, sent: Json, provider: Provider) -> Rule | None:
    for name in _names(text, words, sent):
        if name in NEEDED or name in provider.extra:
            return None
        if name == "reasoning_effort" and provider.reasoning_effort:
            return None
        return _without(name, text, sent)
    return None


def _names(text: str, words: Said, sent: Json) -> Iterator[str]:
    """Fields of the request that the refusal names, the surest first."""
    for name in words.fields:
        root = re.split(r"[.\[]", name)[0] if not name.startswith("body.") else name.split(".")[1]
        if root in sent:
            yield root
        elif (last := re.split(r"[.\[\]]+", name.rstrip("]"))[-1]) in sent:
            yield last
    if not REFUSED.search(text):
        return
    places: dict[str, int] = {}
    for pattern in NAMED:
        for match in pattern.finditer(words.message):
            root = re.split(r"[.\[]", match.group(1))[0]
            if root in sent:
                places.setdefault(root, match.start())
        if places:
            yield from _best(places, text)
            return
    for name in sent:
        match = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)
        if match and name not in PLAIN_WORDS:
            places[name] = match.start()
    yield from _best(places, text)


def _best(places: dict[str, int], text: str) -> Iterator[str]:
    """In the order of the text; of two fields that exclude each other the second goes, as temperature says more."""
    names = sorted(places, key=lambda name: places[name])
    if {"temperature", "top_p"} <= set(names) and re.search(
        r"both|together|only one|at the same time|not .{0,20}with", text
    ):
        names = ["top_p"]
    yield from (name for name in names if name not in NEEDED or len(names) == 1)


def _without(name: str, text: str, sent: Json) -> Rule:
    if name == "response_format":
        return _format(text, sent)
    if name in LIMITS:
        other = LIMITS[1 - LIMITS.index(name)]
        return Rule(field=name, action="rename", value=other)
    if name == "stream":
        return Rule(field=name, action="stream", value=0)
    return Rule(field=name, action="omit")


def _format(text: str, sent: Json) -> Rule:
    """json_schema, json_object, none: one step down; all the way where the provider does not know the field at all."""
    kind = format_type(sent)
    if kind == "json_schema" and re.search(r"schema|type|structured|json_object", text):
        return Rule(field="response_format", action="format", value="json_object", of=kind)
    if kind in ("json_schema", "json_object") and re.search(r"schema|type|json|structured", text):
        return Rule(field="response_format", action="format", value=None, of=kind)
    return Rule(field="response_format", action="omit")
