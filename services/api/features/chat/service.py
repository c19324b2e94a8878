"""Chat: the request as the engine gets it, and its whole answer as the client gets it. Pure functions."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from services.api.engine_errors import CONTEXT_TOO_SHORT, NO_TOOL_PARSER, TEMPLATE_REFUSED
from services.api.features.chat import tools
from services.api.features.chat.fields import (
    LIMITS,
    NOT_PLAIN,
    Notes,
    template_variables,
    with_defaults,
    without_effect,
)
from services.api.features.chat.rationales import RationaleReader
from services.api.model_router import Target
from shared.artifacts.template_text import renders_tools
from shared.contracts.answer_format import split_answer
from shared.contracts.chat import ChatRequest, GenerationRequest
from shared.contracts.conversation import has_calls, template_messages
from shared.contracts.errors import MeteorError, UserError
from shared.contracts.json_types import Json
from shared.jobs.tables import DEFAULT_PROJECT

NOT_SENT = ("model", "user", "safety_identifier", "store", "metadata")
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

Body = Json  # a request in OpenAI's JSON, whose fields pass through


@dataclass(frozen=True)
class Asked:
    """A request on its way to the engine.

    path: the engine's route. body: what it gets. notes: what the headers say. use: the tools of a chat; guided: its call is
    asked for as JSON. copies: so many equal answers, where greedy decoding makes one. rationale: the answer begins with one, which a
    stream tells apart. request: the chat as it was posted;
    places: of the engine's messages among the request's.
    """

    path: str
    body: Body
    notes: Notes
    use: tools.ToolUse | None = None
    copies: int = 1
    rationale: bool = False
    request: Body = field(default_factory=dict)
    places: list[int | None] = field(default_factory=list)
    system: str = ""

    @property
    def guided(self) -> bool:
        return self.use is not None and self.use.must

    @property
    def reshapes(self) -> bool:
        """The engine's chunks are not what the client gets."""
        return self.guided or self.copies > 1 or self.rationale or (self.use is not None and self.use.legacy)


def asked(request: GenerationRequest, target: Target, project: str, template: str | None) -> Asked:
    """The request under the engine's name for the model. template: the base's chat template, None where it is unknown.
    Raises UserError.

    The engine's prompt cache is separate for each project: how quickly an answer begins would reveal what another project asked
    before.
    """
    given, ignored = request.sent, without_effect(request)
    given = {name: value for name, value in given.items() if name not in NOT_SENT}
    if not given.get("stream") and given.pop("stream_options", None):
        ignored.append("stream_options")
    elif (given.get("stream_options") or {}).pop("include_obfuscation", False):
        ignored.append("stream_options.include_obfuscation")
    notes = Notes(ignored, [])
    if isinstance(request, ChatRequest):
        made = _chat(given, request.stray.get("reasoning_effort"), target, notes, template)
    else:
        made = Asked(COMPLETIONS, with_defaults(given, target.generation, plain=False), notes, request=given)
    made.body["model"] = target.engine_name
    if project != DEFAULT_PROJECT:
        made.body["cache_salt"] = project
    return _greedy_once(made)


def _chat(given: Body, effort: Any, target: Target, notes: Notes, template: str | None) -> Asked:
    use = tools.tool_use(given)
    if use is None:
        notes.ignored.extend(name for name in ("tools", "parallel_tool_calls", "functions") if name in given)
    guided = use is not None and use.must
    native = renders_tools(template)
    system = target.generation.system
    extra = tools.instructions(use) if use is not None and guided else ""
    made = template_messages(given["messages"], system, native, extra)
    body = {name: value for name, value in given.items() if name not in (*tools.FIELDS, "chat_template_kwargs")}
    body["messages"] = made.messages
    if not given.get("logprobs") and "top_logprobs" in body and body.pop("top_logprobs"):
        raise UserError("top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
    if given.get("continue_final_message"):
        body["add_generation_prompt"] = False
    variables = dict(given.get("chat_template_kwargs") or {})
    if isinstance(effort, str) and template is not None and "reasoning_effort" in template:
        variables.setdefault("reasoning_effort", effort)
        notes.ignored.remove("reasoning_effort")
    read, ignored = template_variables(variables, template)
    notes.ignored.extend(ignored)
    if read:
        body["chat_template_kwargs"] = read
    if use is not None and guided:
        body.pop("structured_outputs", None)
        body["response_format"] = tools.guided(use)
    elif use is not None:
        body |= {"tools": use.offered, "tool_choice": "auto"}
        if not use.parallel:
            body["parallel_tool_calls"] = False
    plain = not any(given.get(name) for name in NOT_PLAIN) or given.get("response_format") == {"type": "text"}
    body = with_defaults(body, target.generation, plain)
    rationale = target.generation.rationale and use is None and not _is_structured(body)
    return Asked(CHAT, body, notes, use, rationale=rationale, request=given, places=made.places, system=system)


def _greedy_once(made: Asked) -> Asked:
    """Greedy answers are all the same, and the engine refuses to write one twice."""
    n = made.body.get("n", 1)
    if n == 1 or made.body.get("temperature") != 0:
        return made
    return replace(made, body={name: value for name, value in made.body.items() if name != "n"}, copies=n)


def adapted(made: Asked, error: MeteorError) -> Asked | None:
    """The request in a form that the engine may take after it refused this one; None where there is none."""
    if error.code == CONTEXT_TOO_SHORT:
        limits = [name for name in LIMITS if name in made.body]
        made.notes.clamped.extend(name for name in limits if name in made.request)
        return _without(made, limits) if limits else None
    if error.code == NO_TOOL_PARSER and made.body.get("tool_choice") == "auto":
        return replace(made, body=made.body | {"tool_choice": "none"})
    if error.code == TEMPLATE_REFUSED and has_calls(made.request.get("messages", ())):
        extra = tools.instructions(made.use) if made.use is not None and made.guided else ""
        in_words = template_messages(made.request["messages"], made.system, shows_calls=False, extra=extra)
        if in_words.messages != made.body["messages"]:
            return replace(made, body=made.body | {"messages": in_words.messages}, places=in_words.places)
    return None


def _without(made: Asked, names: Iterable[str]) -> Asked:
    return replace(made, body={name: value for name, value in made.body.items() if name not in set(names)})


def stickiness(request: GenerationRequest, opening: Any, session: str, user_key: str | None = None) -> str:
    """What keeps a conversation with one version: what user_key names in its metadata, its user, the header x-session-id,
    `safety_identifier`, or its opening."""
    named = (getattr(request, "metadata", None) or {}).get(user_key) if user_key else None
    return named or request.user or session or request.safety_identifier or json.dumps(opening, sort_keys=True)


def opening_of(messages: list[Body]) -> list[Body]:
    """Up to the first message of the user: a conversation grows after it."""
    place = next((place for place, item in enumerate(messages) if item.get("role") == "user"), len(messages))
    return messages[: place + 1]


# the whole answer


def shown(made: Asked, answer: bytes) -> Body:
    """The engine's whole answer: of a chat the rationale in a field of its own, and a guided call as a call."""
    value = json.loads(answer)
    choices = [_choice(made, choice) if "message" in choice else choice for choice in value.get("choices") or []]
    return value | {"choices": copied(choices, made.copies)}


def _choice(made: Asked, choice: Body) -> Body:
    message = choice["message"]
    if made.use is not None and made.guided:
        reason = tools.ended(made.use, choice.get("finish_reason"))
        return choice | {"message": tools.with_call(message, made.use), "finish_reason": reason}
    return choice | {"message": tools.as_legacy(parted(made, message), made.use)}


def parted(made: Asked, message: Body) -> Body:
    """A message with the rationale in a field of its own, if its text has one."""
    text = message.get("content")
    if not isinstance(text, str) or _is_structured(made.body):
        return message
    rationale, answer = split_answer(text)
    return message | {"content": answer} | ({"reasoning_content": rationale} if rationale else {})


def first_text(made: Asked, answer: bytes) -> str | None:
    """The text of the engine's whole answer as the client gets it, of its first choice; None for a call of a tool."""
    for choice in shown(made, answer)["choices"][:1]:
        text = choice["message"].get("content") if "message" in choice else choice.get("text")
        return text if isinstance(text, str) else None
    return None


def streamed_text(made: Asked, parts: Iterable[str]) -> str | None:
    """The same of the pieces of a stream."""
    text = "".join(parts)
    if made.guided or not text:
        return None
    return text if made.path == COMPLETIONS or _is_structured(made.body) else split_answer(text)[1]


def question_of(made: Asked) -> str:
    """What was asked last: the text of the last message of the user, or the prompt."""
    asked_for: Any = made.request.get("prompt")
    for message in reversed(made.request.get("messages") or []):
        if message.get("role") == "user":
            asked_for = message.get("content")
            break
    if isinstance(asked_for, str):
        return asked_for
    parts = asked_for if isinstance(asked_for, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _is_structured(sent: Body) -> bool:
    """The text has a form of its own, or goes on with what stood before."""
    form = sent.get("response_format")
    structured = isinstance(form, dict) and form.get("type") != "text"
    return structured or bool(sent.get("structured_outputs") or sent.get("continue_final_message") or sent.get("echo"))


def copied(choices: list[Body], copies: int) -> list[Body]:
    return choices if copies == 1 else [choice | {"index": n} for choice in choices for n in range(copies)]


# chunks of a stream


class Reshaper:
    """Turns the engine's chunks of one chat into what the client gets."""

    def __init__(self, made: Asked):
        self.made = made
        self.readers: dict[int, tools.CallReader] = {}
        self.rationales: dict[int, RationaleReader] = {}
        self.logprobs: dict[int, list[Body]] = {}  # of tokens whose text is held back

    def __call__(self, chunk: Body) -> Iterator[Body]:
        if not chunk.get("choices"):
            yield chunk
        for choice in chunk.get("choices") or []:
            for whole in self._parts(choice):
                yield chunk | {"choices": copied([whole], self.made.copies)}

    def _parts(self, choice: Body) -> Iterable[Body]:
        if self.made.guided:
            return self._guided(choice)
        return self._with_rationale(choice) if self.made.rationale else [self._plain(choice)]

    def _with_rationale(self, choice: Body) -> Iterator[Body]:
        """The rationale and the answer in chunks of their own, then the end."""
        index, delta, reason = choice.get("index", 0), dict(choice.get("delta") or {}), choice.get("finish_reason")
        reader = self.rationales.setdefault(index, RationaleReader())
        logprobs = self.logprobs.setdefault(index, [])
        logprobs += (choice.get("logprobs") or {}).get("content") or []
        text = delta.pop("content", None) or ""
        base = choice | {"logprobs": None, "finish_reason": None}
        if delta.get("role"):
            yield base | {"delta": delta | {"content": ""}}
        for name, told in reader.read(text, ended=reason is not None):
            held, self.logprobs[index] = self.logprobs[index], []
            yield base | {"delta": {name: told}, "logprobs": {"content": held} if held else None}
        if reason:
            yield choice | {"delta": {}, "logprobs": None}

    def _plain(self, choice: Body) -> Body:
        if self.made.use is None or not self.made.use.legacy:
            return choice
        delta = dict(choice.get("delta") or {})
        for call in delta.pop("tool_calls", None) or []:
            delta["function_call"] = call["function"]
        reason = "function_call" if choice.get("finish_reason") == "tool_calls" else choice.get("finish_reason")
        return choice | {"delta": delta, "finish_reason": reason}

    def _guided(self, choice: Body) -> Iterator[Body]:
        for delta, reason in self._deltas(choice):
            yield {"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": reason}

    def _deltas(self, choice: Body) -> Iterator[tuple[Body, str | None]]:
        """Of a guided call: its name, then its arguments as they come, then its end."""
        use, delta, reason = self.made.use, choice.get("delta") or {}, choice.get("finish_reason")
        if use is None:
            return
        reader = self.readers.setdefault(choice["index"], tools.CallReader(use.only))
        if delta.get("role"):
            yield {"role": delta["role"], "content": None}, None
        before = reader.begun
        added = reader.read(delta.get("content") or "")
        if reader.name is not None and not before:
            reader.begun = True
            yield _call_delta(use, {"name": reader.name, "arguments": ""}, reader.id), None
        if added:
            yield _call_delta(use, {"arguments": added}), None
        if reason:
            yield {}, tools.ended(use, reason)


def _call_delta(use: tools.ToolUse, function: Body, call_id: str | None = None) -> Body:
    if use.legacy:
        return {"function_call": function}
    first = {"id": call_id, "type": "function"} if call_id else {}
    return {"tool_calls": [{"index": 0, **first, "function": function}]}
