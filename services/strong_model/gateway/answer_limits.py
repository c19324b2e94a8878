"""The limit of an answer that a provider's refusal allows: what its model writes at most, or what the prompt leaves of its
context. No I/O."""

import re

from services.strong_model.gateway.adapt import LIMITS, Rule
from services.strong_model.gateway.said import Said
from shared.contracts.json_types import Json

TOO_SMALL = re.compile(r"at least|minimum|(?:greater|more|larger) than|>=|too (?:small|low)|below")
ABOUT = re.compile(
    r"max_tokens|max_completion_tokens|(?:completion|output|maximum|new) tokens|max_(?:new|output)_tokens"
)
AT_MOST = re.compile(r"at most|up to|maximum|less than|lower than|<=|too (?:large|big|high)|range|exceed")
BELOW = re.compile(r"(?:lower|less|smaller|fewer) than (?!or equal)(?:the )?(?:limit of )?([\d,]+)")
CONTEXT = (  # tokens of prompt and answer together, as group 1
    re.compile(r"(?:context (?:length|window|size)|context)[^.\d]{0,40}?([\d,]+) tokens"),
    re.compile(r"max_model_len[^\d]{0,20}([\d,]+)"),
    re.compile(r"new_tokens must be <= ([\d,]+)"),
    re.compile(r"token limit:? ([\d,]+)"),
    re.compile(r"[\d,]+ \+ [\d,]+ > ([\d,]+)"),
)
PROMPT = (  # tokens of the prompt, as group 1
    re.compile(r"([\d,]+) (?:tokens )?(?:in|of|from) (?:the |your |text )?(?:messages|prompt|input)"),
    re.compile(r"([\d,]+) (?:inputs?|prompt) tokens"),
    re.compile(r"prompt contains .{0,20}?([\d,]+)"),
    re.compile(r"([\d,]+) \+ [\d,]+ > [\d,]+"),
)
TOGETHER = re.compile(r"\(requested:? ([\d,]+)\)")  # tokens of prompt and answer that were asked for
LEAST_CONTEXT = 128  # a smaller number in a refusal is something else
NUMBER = re.compile(r"(?<![\w.-])\d[\d,]*(?![\w.]*[a-z])")


def limit_for(text: str, words: Said, sent: Json) -> Rule | None:
    """text: of the refusal, lower case."""
    name = next((name for name in LIMITS if isinstance(sent.get(name), int)), None)
    if name is None:
        return None
    asked, plain = sent[name], text.replace("`", "").replace("'", "")
    context, prompt = _first(CONTEXT, plain), _first(PROMPT, plain)
    if prompt is None and (together := _first((TOGETHER,), plain)) is not None:
        prompt = together - asked
    if context is not None and prompt is not None:
        left = context - prompt
        return Rule(field=name, action="limit", value=left, once=True) if 0 < left < asked and prompt > 0 else None
    about = ABOUT.search(plain) or any(limit in words.fields for limit in LIMITS)
    if not about:
        return None
    if below := BELOW.search(plain):
        most = _whole(below.group(1)) - 1
        return Rule(field=name, action="limit", value=most) if 0 < most < asked else None
    numbers = [_whole(number) for number in NUMBER.findall(plain)]
    if TOO_SMALL.search(plain):
        larger = min((number for number in numbers if number > asked), default=None)
        return Rule(field=name, action="least", value=larger) if larger is not None and "budget" not in plain else None
    smaller = [number for number in numbers if 1 < number < asked]
    if not smaller or not (asked in numbers or AT_MOST.search(plain)):
        return None
    return Rule(field=name, action="limit", value=max(smaller))


def context_of(words: Said) -> int | None:
    """Tokens of prompt and answer together that a refusal says the model takes."""
    told = _first(CONTEXT, words.message.lower().replace("`", "").replace("'", ""))
    return told if told is not None and told >= LEAST_CONTEXT else None


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    first = next((match for pattern in patterns if (match := pattern.search(text))), None)
    return None if first is None else _whole(first.group(1))


def _whole(digits: str) -> int:
    return int(digits.replace(",", ""))
