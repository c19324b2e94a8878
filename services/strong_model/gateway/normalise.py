"""One form for every answer, streamed, whole or from a batch: text in `content`, reasoning in `reasoning_content`, OpenAI's
words for the reason to finish, and whole numbers in the usage. No I/O.
"""

import re
from typing import Any, Literal, NamedTuple

from shared.contracts.json_types import Json

STOPPED = frozenset(
    [
        "stop",
        "eos",
        "eos_token",
        "end_turn",
        "stop_sequence",
        "stop_token",
        "complete",
        "completed",
        "finished",
        "finish",
        "done",
        "end",
        "endoftext",
        "stop_word",
        "eod",
        "completion",
        "success",
    ]
)
CALLED = frozenset(["tool_calls", "tool_call", "tool_use", "function_call"])
CUT = frozenset(
    [
        "length",
        "max_tokens",
        "model_length",
        "max_output_tokens",
        "max_completion_tokens",
        "max_length",
        "token_limit",
        "context_length",
        "model_context_window_exceeded",
        "incomplete",
        "max_new_tokens",
        "max_tokens_reached",
        "limit",
        "time_limit",
        "error_limit",
        "truncated",
    ]
)
FILTERED = frozenset(
    [
        "content_filter",
        "content_filtered",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "image_safety",
        "refusal",
        "sensitive",
        "moderation",
        "guardrail_intervened",
        "guardrails",
        "blocked",
        "error_toxic",
        "language",
        "content_policy",
        "filtered",
    ]
)
BROKEN = frozenset(
    [
        "error",
        "insufficient_system_resource",
        "network_error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "timeout",
        "malformed_function_call",
        "malformed_response",
        "unexpected_tool_call",
        "load",
        "unload",
        "failed",
    ]
)
UNKNOWN = "unknown"
UNOPENED = (
    "reasoning_unopened"  # in a message: its reasoning had an end and no beginning, so that a cut one looks like text
)
End = Literal["marked", "unopened", "missing"]  # of reasoning inside a text; marked: also where there is none
REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thought", "thoughts", "reasoning_details")
THOUGHT_PARTS = frozenset(("thinking", "reasoning", "thought", "redacted_thinking", "reasoning_content"))
TAGS = (  # (opener, closer) of reasoning inside the text
    (r"<think(?:ing)?>", r"</think(?:ing)?>"),
    (r"<thoughts?>", r"</thoughts?>"),
    (r"<reason(?:ing)?>", r"</reason(?:ing)?>"),
    (r"<seed:think>", r"</seed:think>"),
    (r"◁think▷", r"◁/think▷"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|channel>\s*(?:thought|analysis)", r"<channel\|>"),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"<antthinking>", r"</antthinking>"),
    (r"Here is my thought process:", r"Here is my (?:response|answer):"),
)
_TAGS = [
    (re.compile(rf"\s*{opener}", re.IGNORECASE), re.compile(opener, re.IGNORECASE), re.compile(closer, re.IGNORECASE))
    for opener, closer in TAGS
]
_LINE = re.compile(r"^[ \t]*<think(?:ing)?>", re.IGNORECASE | re.MULTILINE)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*?(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_BARE_CHANNEL = re.compile(r"\A\s*analysis(.*?)assistant\s*final(.*)\Z", re.DOTALL)  # the markup's tokens were dropped
_WRAPS = (  # (opener, closer) of the answer after marked reasoning
    (r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>"),
    (r"<\|START_RESPONSE\|>", r"<\|END_RESPONSE\|>"),
    (r"<\|begin_of_box\|>", r"<\|end_of_box\|>"),
    (r"<answer>", r"</answer>"),
    (r"<response>", r"</response>"),
    (r"<output>", r"</output>"),
)
_WRAP = re.compile(
    "|".join(rf"\A{opener}\s*(.*?)\s*(?:{closer})?\Z" for opener, closer in _WRAPS), re.DOTALL | re.IGNORECASE
)


class Unreadable(ValueError):
    """The answer is no completion. The text says what it has instead."""


class Failed(ValueError):
    """The provider says in the answer itself that it failed. body: what it says."""

    def __init__(self, body: Any):
        super().__init__("an error in an answer")
        self.body = body


class Blocked(ValueError):
    """The answer has no choices because the prompt was blocked."""


def normalised(body: Any, finished_by: tuple[str, ...] = ()) -> Json:
    """A completion in OpenAI's form, as a new object. finished_by: more words for a whole answer.

    Raises Unreadable, Failed and Blocked.
    """
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        raise Unreadable("an answer without choices")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _without_choices(body, choices)
    readable = [_choice(choice, place, finished_by) for place, choice in enumerate(choices)]
    return body | {"choices": readable, "usage": _usage(body.get("usage"))}


def _without_choices(body: Json, choices: Any) -> ValueError:
    if says_error(body):
        return Failed(body)
    feedback = body.get("promptFeedback") or body.get("prompt_feedback") or body.get("prompt_filter_results")
    if isinstance(body.get("message"), dict) or isinstance(body.get("response"), str):
        return Unreadable(
            "an answer in a form of its own, without choices; OpenAI's form usually has an address that ends in /v1"
        )
    if feedback or ("choices" in body and choices is None and ("usage" in body or "id" in body)):
        return Blocked(str(feedback or ""))
    return Unreadable("an answer without choices")


def says_error(body: Json) -> bool:
    """Whether an answer, or a chunk of a stream, is an error in one of the shapes that come with HTTP status 200."""
    base = body.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    if body.get("error") or body.get("errors") or body.get("object") == "error" or body.get("type") == "error":
        return True
    return "choices" not in body and bool(
        body.get("detail") or any(isinstance(body.get(name), str) and body[name] for name in ("message", "msg"))
    )


def _choice(choice: Any, place: int, finished_by: tuple[str, ...]) -> Json:
    if not isinstance(choice, dict):
        raise Unreadable("a choice without a message")
    if choice.get("error"):
        raise Failed(choice)
    message = choice.get("message")
    for name in ("text", "content"):
        if message is None and isinstance(choice.get(name), str):
            message = {"content": choice[name]}
    if not isinstance(message, dict):
        raise Unreadable("a choice without a message")
    text, thoughts, end = read_message(message)
    reason, original = _reason(choice.get("finish_reason"), finished_by), choice.get("finish_reason")
    if end == "missing" and reason == "stop":
        reason = "length"  # cut while it reasoned
    kept = {name: value for name, value in message.items() if name not in REASONING and value is not None}
    clean: Json = {"role": "assistant"} | kept | {"content": text}
    if thoughts:
        clean["reasoning_content"] = thoughts
    if end == "unopened":
        clean[UNOPENED] = True
    index = choice.get("index")
    named = {"index": index if isinstance(index, int) else place, "message": clean, "finish_reason": reason}
    return (
        {name: value for name, value in choice.items() if name not in ("text", "content")}
        | named
        | _native(reason, original)
    )


def _native(reason: str, original: Any) -> Json:
    return {} if reason == original else {"native_finish_reason": original}


def _reason(given: Any, finished_by: tuple[str, ...]) -> str:
    if isinstance(given, dict):  # with what matched beside it
        given = given.get("type") or given.get("reason")
    word = str(given or "")
    if word in finished_by:
        return "stop"
    word = word.rpartition(".")[2].lower()
    for words, reason in ((STOPPED, "stop"), (CALLED, "tool_calls"), (CUT, "length"), (FILTERED, "content_filter")):
        if word in words:
            return "function_call" if word == "function_call" else reason
    return "error" if word in BROKEN else UNKNOWN


def read_message(message: Json) -> tuple[str, str, End]:
    """(answer, reasoning, how the reasoning ended)."""
    text, thoughts = _content(message.get("content"))
    for name in REASONING:
        more = _flat(message.get(name))
        if more and more not in thoughts:
            thoughts.append(more)
    answer, inside, end = split(text)
    return answer, "\n".join([*thoughts, *inside]).strip(), end


def read_parts(delta: Json) -> tuple[str, str]:
    """(text, reasoning) of a piece of a streamed message; marks inside its text are left in it."""
    try:
        text, thoughts = _content(delta.get("content"))
    except Unreadable:
        text, thoughts = "", []
    named = next((_flat(delta[name]) for name in REASONING if delta.get(name)), "")
    return text, "".join(thoughts) + named


def live_reason(given: Any) -> str:
    """The reason to finish as a client of a stream gets it; what is not known means that the answer is not whole."""
    reason = _reason(given, ())
    return "length" if reason in (UNKNOWN, "error") else reason


def _content(content: Any) -> tuple[str, list[str]]:
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        if content is None or isinstance(content, str):
            return content or "", []
        raise Unreadable("a message whose content is no text")
    texts, thoughts = [], []
    for part in content:
        if isinstance(part, dict) and part.get("type") in THOUGHT_PARTS:
            thoughts.append(
                _flat(part.get("thinking") or part.get("text") or part.get("reasoning") or part.get("summary"))
            )
        else:
            texts.append(_flat(part))
    return "".join(texts), [thought for thought in thoughts if thought]


def _flat(value: Any) -> str:
    """The text of a string, a part or a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_flat(item) for item in value)
    if isinstance(value, dict):
        return next(
            (_flat(value[name]) for name in ("text", "summary", "content", "thinking", "value") if value.get(name)), ""
        )
    return ""


def split(text: str) -> tuple[str, list[str], End]:
    """(answer, pieces of reasoning, how they ended) of a text with reasoning marked in it."""
    if "<|channel|>" in text:
        return _channels(text)
    bare = _BARE_CHANNEL.match(text)
    if bare:
        return bare.group(2).strip(), [bare.group(1).strip()], "marked"
    thoughts: list[str] = []
    rest = text
    end: End = "marked"
    while (piece := _next_piece(rest)) is not None:
        before, thought, after, opened = piece
        end = end if opened else "unopened"
        thoughts.append(thought.strip())
        if after is None:
            return before.strip(), [item for item in thoughts if item], "missing"
        rest = before + after.lstrip("\r\n ") if before.strip() else after
    if thoughts:
        wrapped = _WRAP.match(rest.strip())
        rest = next((group for group in wrapped.groups() if group is not None), "") if wrapped else rest.strip()
    return rest, [item for item in thoughts if item], end


class Piece(NamedTuple):
    """One marked piece of reasoning. after: None where it never ends."""

    before: str
    thought: str
    after: str | None
    opened: bool = True


def _next_piece(text: str) -> Piece | None:
    """The first marked piece; None without one."""
    for leading, opener, closer in _TAGS:
        start = leading.match(text)
        if start:
            end = closer.search(text, start.end())
            return _piece(text, start, end)
        end = closer.search(text)
        if end and not opener.search(text, 0, end.start()) and not _quoted(text, end.start()):
            return Piece("", text[: end.start()], text[end.end() :], opened=False)
    line = _LINE.search(text)
    if line and not _quoted(text, line.start()):
        piece = _piece(text, line, _TAGS[0][2].search(text, line.end()))
        return piece._replace(before=text[: line.start()])
    return None


def _piece(text: str, start: re.Match[str], end: re.Match[str] | None) -> Piece:
    if end is None:
        return Piece("", text[start.end() :], None)
    return Piece("", text[start.end() : end.start()], text[end.end() :])


def _quoted(text: str, place: int) -> bool:
    """Whether it stands in a code block or in backticks, so that it is a part of the answer."""
    before = text[:place]
    return before.count("```") % 2 == 1 or before.rpartition("\n")[2].count("`") % 2 == 1


def _channels(text: str) -> tuple[str, list[str], End]:
    answer, thoughts = [], []
    for channel, words in _CHANNEL.findall(text):
        (answer if channel == "final" else thoughts).append(words.strip())
    whole = "\n".join(answer).strip()
    return whole, [item for item in thoughts if item], "marked" if whole else "missing"


def usage_of(body: Any) -> Json | None:
    return _usage(body.get("usage")) if isinstance(body, dict) else None


def _usage(given: Any) -> Json | None:
    """Whole numbers, wherever one can be read; None without any count."""
    if not isinstance(given, dict):
        return None
    usage = {name: _counts(value) for name, value in given.items()}
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}  # some use their native words
    for name, other in names.items():
        if not isinstance(usage.get(name), int):
            usage[name] = usage[other] if isinstance(usage.get(other), int) else 0
    if not isinstance(usage.get("total_tokens"), int):
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return usage if usage["total_tokens"] else None


def _counts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _counts(item) for name, item in value.items()}
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value
