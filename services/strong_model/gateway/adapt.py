"""A request as its provider gets it: the operator's options, then what was learned of the provider. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from services.strong_model.gateway.providers import Provider
from shared.contracts.json_types import Json
from shared.contracts.providers import Change

Action = Literal[
    "omit", "rename", "value", "format", "role", "fold", "merge", "flatten", "strip", "limit", "least", "stream"
]
LIMITS = ("max_tokens", "max_completion_tokens")
NOT_STREAMED = (
    "tools",
    "functions",
    "logprobs",
    "top_logprobs",
    "audio",
    "modalities",
)  # kept whole: less to put together
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


class Rule(BaseModel):
    """A change that a provider's refusal asked for.

    value: by action: rename: the other name; value: the value instead; format: the type instead, None: none; role: the role
    instead; limit, least: the most or the fewest
    tokens; stream: whether. of: by action: value: the refused one as text; format: the type that was
    refused; role: the role; strip: the key of turns. once: for this request alone.
    """

    model_config = ConfigDict(frozen=True)

    field: str
    action: Action
    value: str | int | float | None = None
    of: str | None = None
    why: str = ""
    at: float = 0.0
    once: bool = False

    @property
    def key(self) -> tuple[str, str, str | None]:
        return self.field, self.action, self.of

    def change(self, times: int = 0) -> Change:
        return Change(field=self.field, how=_HOW[self.action](self), why=self.why, at=self.at, times=times)


_HOW: dict[Action, Callable[[Rule], str]] = {
    "omit": lambda rule: "left out",
    "rename": lambda rule: f"sent as {rule.value}",
    "value": lambda rule: f"{rule.of} sent as {rule.value}",
    "format": lambda rule: f"{rule.of} sent as {rule.value}" if rule.value else f"{rule.of} left out",
    "role": lambda rule: f"{rule.of} sent as {rule.value}",
    "fold": lambda rule: "the system's text stands in the first user turn",
    "merge": lambda rule: "turns of one role in a row are one turn",
    "flatten": lambda rule: "a turn's parts of text are one text",
    "strip": lambda rule: f"turns are sent without {rule.of}",
    "limit": lambda rule: f"at most {rule.value}",
    "least": lambda rule: f"at least {rule.value}",
    "stream": lambda rule: "streamed" if rule.value else "not streamed",
}


class Adapted(NamedTuple):
    """sent: the request's body on the wire. applied: the rules that changed it."""

    sent: Json
    applied: list[Rule]


def adapted(provider: Provider, body: Json, rules: Iterable[Rule] = (), room: int = 0, stream: bool = False) -> Adapted:
    """room: tokens added to the request's limit. stream: ask for a streamed answer, where nothing speaks against it."""
    sent = dict(body) | {"model": provider.model, "messages": without_empty_turns(body["messages"])}
    if provider.reasoning_effort:
        sent.setdefault("reasoning_effort", provider.reasoning_effort)
    if not provider.json_schema and format_type(sent) == "json_schema":
        del sent["response_format"]  # the caller checks the reply and asks again
    for name in LIMITS:
        if isinstance(sent.get(name), int):
            sent[name] += room
    if stream:
        sent |= STREAM
    for name in provider.omit:
        sent.pop(name, None)
    applied = [rule for rule in rules if _apply(rule, sent)]
    return Adapted(merged(sent, provider.extra), applied)


def streams(provider: Provider, body: Json) -> bool:
    """Whether an answer is streamed although its caller did not ask for it: then silence is timed, not the whole."""
    if provider.stream is not None:
        return provider.stream
    return not any(body.get(name) for name in NOT_STREAMED) and body.get("n") in (None, 1)


def format_type(body: Json) -> str | None:
    wanted = body.get("response_format")
    return wanted.get("type") if isinstance(wanted, dict) else None


def merged(body: Json, extra: Json) -> Json:
    """extra laid over the body, objects inside objects too."""
    both = {name: merged(body[name], value) for name, value in extra.items() if _objects(body.get(name), value)}
    return body | extra | both


def _objects(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _apply(rule: Rule, sent: Json) -> bool:
    """Change `sent` in place; False where it had nothing to change."""
    before = dict(sent)
    match rule.action:
        case "omit":
            sent.pop(rule.field, None)
        case "rename" if rule.field in sent:
            value = sent.pop(rule.field)
            sent.setdefault(str(rule.value), value)
        case "value" if str(sent.get(rule.field)) == rule.of:
            sent[rule.field] = rule.value
        case "format" if format_type(sent) == rule.of:
            sent["response_format"] = {"type": rule.value}
            if rule.value is None:
                del sent["response_format"]
        case "limit":
            for name in LIMITS:
                if isinstance(sent.get(name), int) and isinstance(rule.value, int):
                    sent[name] = min(sent[name], rule.value)
        case "least":
            for name in LIMITS:
                if isinstance(sent.get(name), int) and isinstance(rule.value, int):
                    sent[name] = max(sent[name], rule.value)
        case "stream":
            for name in STREAM:
                sent.pop(name, None)
            sent.update(STREAM if rule.value else {})
        case "role":
            sent["messages"] = [_in_role(turn, rule) for turn in sent["messages"]]
        case "fold":
            sent["messages"] = folded(sent["messages"])
        case "merge":
            sent["messages"] = alternating(sent["messages"])
        case "flatten":
            sent["messages"] = [turn | {"content": flat(turn.get("content"))} for turn in sent["messages"]]
        case "strip":
            sent["messages"] = [{key: turn[key] for key in turn if key != rule.of} for turn in sent["messages"]]
        case "rename" | "value" | "format":
            pass  # the body is none that the rule is for
    return sent != before


def flat(content: Any) -> Any:
    """Parts of text as one text; any other content as it is."""
    if not isinstance(content, list) or not all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    ):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)


def _in_role(turn: Json, rule: Rule) -> Json:
    return turn | {"role": rule.value} if turn.get("role") == rule.of else turn


def without_empty_turns(messages: Sequence[Json]) -> list[Json]:
    """Without assistant turns that say and call nothing, which some providers refuse; user turns around one become one."""
    kept = [turn for turn in messages if not _is_empty(turn)]
    return alternating(kept, ("user",)) if len(kept) < len(messages) else list(messages)


def _is_empty(turn: Json) -> bool:
    content = turn.get("content")
    blank = not content or (isinstance(content, str) and not content.strip())
    return turn.get("role") == "assistant" and blank and not any(
        turn.get(name) for name in ("tool_calls", "function_call", "refusal", "audio")
    )  # fmt: skip


def alternating(messages: Iterable[Json], roles: Sequence[str] = ("user", "assistant", "system")) -> list[Json]:
    """Neighbouring turns of one of these roles become one turn."""
    turns: list[Json] = []
    for turn in messages:
        role = turn.get("role")
        if turns and role in roles and turns[-1].get("role") == role and not turn.get("tool_calls"):
            turns[-1] = turns[-1] | {"content": _joined(turns[-1].get("content"), turn.get("content"))}
        else:
            turns.append(turn)
    return turns


def folded(messages: Sequence[Json]) -> list[Json]:
    """What the system says stands at the beginning of the first user turn."""
    systems = [turn for turn in messages if turn.get("role") in ("system", "developer")]
    others = [turn for turn in messages if turn.get("role") not in ("system", "developer")]
    if not systems:
        return list(messages)
    text: Any = systems[0].get("content")
    for turn in systems[1:]:
        text = _joined(text, turn.get("content"))
    if not others or others[0].get("role") != "user":
        return [{"role": "user", "content": text}, *others]
    return [others[0] | {"content": _joined(text, others[0].get("content"))}, *others[1:]]


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, list) or isinstance(other, list):
        return [*_parts(one), *_parts(other)]
    return "\n\n".join(text for text in (one, other) if text)


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
