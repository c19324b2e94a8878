"""Which change of a request its provider's refusal asks for. No I/O.

The refused field is the one that the error names, else one that its words name; a field that the caller cannot do without,
or that the operator has set, is never dropped.
"""

import re
import time
from collections.abc import Collection

from services.strong_model.gateway.adapt import LIMITS, Rule, alternating, flat, format_type
from services.strong_model.gateway.allowed_values import nearest
from services.strong_model.gateway.answer_limits import limit_for
from services.strong_model.gateway.field_names import NEEDED, named_fields
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.said import Said
from shared.contracts.json_types import Json

REFUSING = frozenset({400, 403, 404, 405, 415, 422, 500, 501})  # HTTP statuses that refuse a parameter; 500: templates
FORBIDDEN = 403  # of a field that the account may not use
SERVER = 500
OF_TURNS = frozenset(("role", "content", "tool_calls", "tool_call_id", "function_call", "text", "type"))
SYSTEM = re.compile(
    r"(?:system|developer)(?:[ _-](?:role|messages?|prompts?|instructions?))?[\"'`]?.{0,40}?(?:not|n't|un)[ -]?.{0,12}?"
    r"(?:support|allow|enable|permit|accept|valid)|(?:not|n't|un)[ -]?.{0,30}?(?:support|allow|accept)\w*[ :]+.{0,40}?\bsystem\b|"
    r"role.{0,60}[\"'`]system[\"'`]|roles? .{0,30}\b(?:got|but|received):? [\"'`]?system|"
    r"only (?:the )?[\"'`]?user[\"'`]? and [\"'`]?assistant[\"'`]?|only user(?:(?!system)[\w ,\"'`]){0,40} roles? (?:are|is)|"
    r"(?:unknown|invalid|unexpected) (?:message )?role|only one system|multiple system|system messages? must"
)
ALTERNATE = re.compile(
    r"roles? must alternate|alternat\w+ .{0,20}user|should (?:be )?alternat|interleav|successive .{0,20}(?:user|assistant)|"
    r"expected last role|consecutive .{0,30}(?:role|message|turn)|first message .{0,30}user"
)
ONLY_STREAMS = re.compile(
    r"only supports? stream|enable (?:the )?stream|stream\w*.{0,20} (?:is )?(?:required|must be (?:true|enabled|set))|"
    r"non-stream\w* (?:calls?|.{0,40}not)|must (?:be|have|set|use|enable) .{0,20}stream"
)
UNFINISHED = re.compile(
    r"(?:max_tokens|max_completion_tokens|output limit|model output).{0,60}(?:was|is|been) reached|could not finish|"
    r"max_(?:completion_)?tokens.{0,5} must be (?:greater|larger|more) than .{0,30}budget"
)
FORMAT = re.compile(
    r"grammar|json[ _-]?schema|json[ _-]?mode|response[ _]schema|generat\w+ json|structured output|guided"
)
OF_THE_REPLY = re.compile(
    r"failed to generate json|json_validate_failed"
)  # the model's own slip, not the provider's ability
UNKNOWN_FIELD = re.compile(r"extra|unknown (?:name|field|parameter|argument)|unrecogni[sz]ed|unexpected")
ONE_TEXT = re.compile(r"content.{0,40}(?:expected|should be|must be|type).{0,30}\bstr(?:ing)?\b")
OTHER_NAME = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|extra|permitted|allowed|deprecat|instead|use |removed|invalid|accept"
)


def change_for(status: int, words: Said, sent: Json, provider: Provider, tried: Collection[Rule] = ()) -> Rule | None:
    """The change to try next; None where this refusal asks for none that is allowed. tried: those that made `sent`."""
    text = words.message.lower()
    if status not in REFUSING:
        return None
    rule = _field(text, words, sent, provider) if status == FORBIDDEN else _turns(text, words, sent)
    if rule is None and status < SERVER and status != FORBIDDEN:
        rule = limit_for(text, words, sent) or _streamed(text, sent) or _field(text, words, sent, provider)
        rule = rule or _format_meant(text, words, sent)
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
    by_name = any(re.fullmatch(r"messages[.\[]+\d+\]?\.role", name) for name in words.fields)
    if ALTERNATE.search(text) and alternating(sent["messages"]) != sent["messages"]:
        return Rule(field="messages", action="merge")
    if "system" in roles and (by_name or SYSTEM.search(text) or ALTERNATE.search(text)):
        return Rule(field="messages", action="fold", value="user")
    if ONE_TEXT.search(text) and any(flat(turn.get("content")) != turn.get("content") for turn in sent["messages"]):
        return Rule(field="messages", action="flatten")
    return _key_of_turns(text, words, sent)


def _key_of_turns(text: str, words: Said, sent: Json) -> Rule | None:
    """A key of turns beside their role and text that is refused."""
    for name in [*words.fields, *re.findall(r"messages?[.\[]+\d+[\w.\[\]]*", text)]:
        key = re.split(r"[.\[\]]+", name.rstrip("]"))[-1]
        if key not in OF_TURNS and any(key in turn for turn in sent["messages"]):
            return Rule(field="messages", action="strip", of=key)
    return None


def _streamed(text: str, sent: Json) -> Rule | None:
    if not sent.get("stream") and ONLY_STREAMS.search(text):
        return Rule(field="stream", action="stream", value=1)
    return None


def _field(text: str, words: Said, sent: Json, provider: Provider) -> Rule | None:
    for name in named_fields(words, sent):
        if name in NEEDED or name in provider.extra:
            return None
        if name == "reasoning_effort" and provider.reasoning_effort:
            return None
        return _without(name, text, sent)
    return None


def _without(name: str, text: str, sent: Json) -> Rule | None:
    if name == "response_format":
        return _format(text, sent)
    if name in LIMITS:
        other = LIMITS[1 - LIMITS.index(name)]
        return Rule(field=name, action="rename", value=other) if OTHER_NAME.search(text) else None
    if name == "stream":
        return Rule(field=name, action="stream", value=0)
    allowed = nearest(name, sent[name], text)
    if allowed is not None:
        return Rule(field=name, action="value", value=allowed, of=str(sent[name]))
    return Rule(field=name, action="omit")


def _format_meant(text: str, words: Said, sent: Json) -> Rule | None:
    """The refusal speaks of the answer's format and does not name the field."""
    if "response_format" not in sent or not FORMAT.search(text):
        return None
    rule = _format(text, sent)
    slip = OF_THE_REPLY.search(text) or any(OF_THE_REPLY.search(code) for code in words.codes)
    return rule.model_copy(update={"once": bool(slip)})


def _format(text: str, sent: Json) -> Rule:
    """json_schema, json_object, none: one step down; all the way where the provider does not know the field at all."""
    kind = format_type(sent)
    if "response_format" in text and UNKNOWN_FIELD.search(text):
        return Rule(field="response_format", action="omit")
    if kind == "json_schema":
        return Rule(field="response_format", action="format", value="json_object", of=kind)
    if kind == "json_object":
        return Rule(field="response_format", action="format", value=None, of=kind)
    return Rule(field="response_format", action="omit")
