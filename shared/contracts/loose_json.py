"""JSON as models write it: with reasoning and prose around it, and with the usual slips inside it.

Valid JSON is read as `json.loads` reads it. Everything else is read by a parser that mends what it meets: Python's literals,
other quotes, missing or surplus commas, unquoted keys and values, comments, quotes inside strings, a missing end. It never
raises, and its time is bounded.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

LONGEST = 100_000  # characters of a reply that is not valid JSON; of a longer one the end is read
MOST_STARTS = 300  # places where a value could begin; of more, the last ones
READ_TIMES = 10  # so often may the text be looked at, over all places where a value could begin
DEEPEST = 16  # levels of nesting

_OPENER = re.compile(r"\s*(?:<(think|thinking|thought|reasoning|analysis)>|\[THINK\])", re.IGNORECASE)
_CLOSER = re.compile(r"</(?:think|thinking|thought|reasoning|analysis)>|\[/THINK\]", re.IGNORECASE)
_ANY_OPENER = re.compile(r"<(?:think|thinking|thought|reasoning|analysis)>|\[THINK\]", re.IGNORECASE)
_INVISIBLE = re.compile("[\ufeff\u200b\u2060]")
_FENCE_END = re.compile(r"\s*```\s*\Z")

_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*.*?(?:\*/|\Z)|\#[^\n]*)*", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201c\u201d\"", "\u201d": "\u201d\u201c\"", "\u201e": "\u201c\u201d\"",
           "\u2018": "\u2018\u2019'", "\u2019": "\u2019\u2018'", "\u00ab": "\u00bb"}  # fmt: skip
_CLOSING = {opener: re.compile(rf"\\.|[{closers}]", re.DOTALL) for opener, closers in _QUOTES.items()}
_Q = "".join(_QUOTES)
_BARE_KEY = re.compile(r"[A-Za-z_$][\w$-]{0,80}(?=\s*[:=\uff1a])")
_KEY_END = re.compile(r"\s*[:=\uff1a]")
_COLONS = ":=\uff1a"
_NEXT_KEY = rf"[{_Q}]?[^\W\d][\w -]{{0,80}}[{_Q}\u201d]?\s*[:=\uff1a]"
_IN_OBJECT = re.compile(
    rf"\s*(?:[}}]|\Z|//|/\*|\#|[,;\uff0c]\s*(?:[}}]|\Z|//|/\*|\#|{_NEXT_KEY}))|[^\S\n]*\n\s*{_NEXT_KEY}"
)
_IN_LIST = re.compile(r"\s*(?:[\],;\uff0c]|\Z|//|/\*|\#)")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?=\s*(?:[,;\uff0c}\]\n]|\Z|//|/\*|\#))")
_BARE_VALUE = re.compile(r"(?:(?!\s(?://|/\*|\#))[^,;\uff0c{}\[\]\n])+")
_LITERALS = {"true": True, "false": False, "null": None, "none": None, "nil": None, "undefined": None}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "\n"}
_DECODER = json.JSONDecoder(strict=False)
_WIDE = str.maketrans("\uff5b\uff5d\uff3b\uff3d", "{}[]")
_ABSENT = object()  # a value that the end of the reply cut off


def without_reasoning(text: str) -> str:
    """Without the blocks of reasoning at its beginning: tagged, without the opening tag, or cut off inside one (then nothing is
    left)."""
    while opener := _OPENER.match(text):
        closer = _CLOSER.search(text, opener.end())
        if closer is None:
            return ""
        text = text[closer.end() :]
    closer = _CLOSER.search(text)
    if closer is not None and not _ANY_OPENER.search(text, 0, closer.start()):
        text = text[closer.end() :]
    return text.strip()


def values(text: str, opener: str = "{", cut_off: bool = False) -> list[Any]:
    """What a reply holds, in order: its one value if it is valid JSON, else each top-level object (opener "{") or list ("[")
    that can be made out in it.

    cut_off: the reply ended at its token limit. A number that its end may have cut does not count, the beginning of a string
    does, and text after a value shows that the value was not the reply.
    """
    bare = _INVISIBLE.sub("", text)
    for candidate in (text, bare, without_reasoning(bare)):
        try:
            return [json.loads(candidate)]
        except (ValueError, RecursionError):
            continue
    text = _FENCE_END.sub("", without_reasoning(bare))[-LONGEST:]
    if opener not in text:
        text = text.translate(_WIDE)
    reader = _Reader(text, cut_off)
    read = list(reader.top_level(opener))
    if cut_off and read and text[reader.end_of_last :].strip().strip("`"):
        return []
    return read


def members(text: str) -> dict[str, Any]:
    """The fields of an object whose braces are missing: `"correct": true}`, or a `name: value` on each line."""
    reader = _Reader(without_reasoning(_INVISIBLE.sub("", text))[-LONGEST:], cut_off=False)
    try:
        return reader.members(1)
    except _Unreadable:
        return {}


class _Unreadable(Exception):
    """No value begins here, or the text was looked at too often."""


class _Reader:
    def __init__(self, text: str, cut_off: bool):
        self.text, self.cut_off = text, cut_off
        self.at = 0
        self.end_of_last = 0
        self.left = READ_TIMES * (len(text) + 100)
        self.last_colon = max(text.rfind(colon) for colon in _COLONS)

    def top_level(self, opener: str) -> Iterator[Any]:
        starts = [match.start() for match in re.finditer(re.escape(opener), self.text)][-MOST_STARTS:]
        for start in starts:
            if start < self.at or self.left <= 0:
                continue
            self.at = start
            try:
                value = self.whole()
                if value is _ABSENT:
                    value = self.object(1) if opener == "{" else self.list(1)
                yield value
                self.end_of_last = self.at
            except _Unreadable:
                self.at = start + 1

    def whole(self) -> Any:
        """The valid JSON that begins here; _ABSENT if there is none."""
        try:
            value, end = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.left -= (len(self.text) if error.msg.startswith("Unterminated") else error.pos) - self.at
        except (ValueError, RecursionError):
            self.left -= len(self.text) - self.at
        else:
            self.move(end)
            return value
        return _ABSENT

    def move(self, to: int) -> None:
        self.left -= to - self.at + 1
        if self.left <= 0:
            raise _Unreadable
        self.at = to

    def matched(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.move(match.end())
        return match.group()

    def next_sign(self) -> str:
        """The next character that is neither space nor comment; empty at the end."""
        self.matched(_SPACE)
        return self.text[self.at : self.at + 1]

    def object(self, depth: int) -> dict[str, Any]:
        self.move(self.at + 1)
        return self.members(depth)

    def members(self, depth: int) -> dict[str, Any]:
        if depth > DEEPEST:
            raise _Unreadable
        members: dict[str, Any] = {}
        while sign := self.next_sign():
            if sign == "}":
                self.move(self.at + 1)
                break
            if sign in ",;\uff0c":
                self.move(self.at + 1)
                continue
            name = self.name()
            if name is None:
                break
            value = self.value(depth + 1, _IN_OBJECT)
            if value is not _ABSENT:
                members[name] = value
        return members

    def list(self, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise _Unreadable
        self.move(self.at + 1)
        items: list[Any] = []
        while sign := self.next_sign():
            if sign == "]":
                self.move(self.at + 1)
                break
            if sign in ",;\uff0c":
                self.move(self.at + 1)
                continue
            item = self.value(depth + 1, _IN_LIST)
            if item is not _ABSENT:
                items.append(item)
        return items

    def name(self) -> str | None:
        """A key, and the colon after it is passed. None: the text ends before another colon."""
        sign = self.text[self.at]
        if sign in _QUOTES:
            for closer in _CLOSING[sign].finditer(self.text, self.at + 1, self.at + 200):
                if len(closer.group()) == 1 and _KEY_END.match(self.text, closer.end()):
                    key = self.text[self.at + 1 : closer.start()]
                    if not re.search(r"[{}\n]", key):
                        self.move(closer.end())
                        self.matched(_KEY_END)
                        return key.strip()
                    break
        elif (key := self.matched(_BARE_KEY)) is not None:
            self.matched(_KEY_END)
            return key
        if self.at > self.last_colon:
            self.move(len(self.text))
            return None
        raise _Unreadable

    def value(self, depth: int, followed_by: re.Pattern[str]) -> Any:
        sign = self.next_sign()
        if not sign:
            return _ABSENT
        if sign == "{":
            return self.object(depth)
        if sign == "[":
            return self.list(depth)
        if sign in _QUOTES:
            return self.string(sign, followed_by)
        number = self.matched(_NUMBER)
        if number is not None:
            return _ABSENT if self.cut_off and self.at == len(self.text) else _number(number)
        word = (self.matched(_BARE_VALUE) or "").strip()
        if not word:
            raise _Unreadable
        if word.casefold() in _LITERALS:
            return _LITERALS[word.casefold()]
        return _ABSENT if self.cut_off and self.at == len(self.text) else word

    def string(self, opener: str, followed_by: re.Pattern[str]) -> str:
        """A quote ends the string only where something follows that may stand after a value. Without such a quote the string
        goes to the end of the text."""
        start = self.at + 1
        for closer in _CLOSING[opener].finditer(self.text, start):
            if len(closer.group()) == 1 and followed_by.match(self.text, closer.end()):
                self.move(closer.end())
                return _unescaped(self.text[start : closer.start()])
        self.move(len(self.text))
        return _unescaped(self.text[start:].rstrip().removesuffix("}").rstrip())


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _unescaped(text: str) -> str:
    """Known escapes replaced; a backslash before anything else is meant as one, but not before a quote or another backslash."""

    def plain(escape: re.Match[str]) -> str:
        code = escape.group(1)
        if len(code) == 5:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code) or (code if code in "\"'`\\/" else escape.group())

    return sound(_ESCAPE.sub(plain, text))


def sound(text: str) -> str:
    """With the replacement character in place of half a surrogate pair, which cannot be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
