"""JSON as a stream: the members of lists and objects somewhere in it, one in memory at a time.

ijson's own `items` keeps the path to every level, so that 100,000 open brackets cost gigabytes; its events cost nothing.
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

from shared.contracts.data import MAX_LINE_BYTES

MOST_DEPTH = 100
MOST_EVENTS = 1_000_000  # of one member: larger ones are no rows
STARTS, ENDS = ("start_map", "start_array"), ("end_map", "end_array")
HALF = "\ufdd0"  # stands for half of a surrogate pair: a character that no text may hold
LONE = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:(?:\\u[dD][89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?)|\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
Path = tuple[str, ...]


class Marked:
    """A JSON file whose lone surrogates are marked as HALF: the parser would replace them without a word."""

    def __init__(self, file: BinaryIO):
        self._file, self._rest, self.marked = file, b"", False

    def read(self, size: int = 1 << 16) -> bytes:
        if not size:
            return b""
        while True:
            fresh = self._file.read(size)
            chunk, self._rest = self._rest + fresh, b""
            if fresh:  # an escape at the end waits for what follows
                cut = _open_escape(chunk)
                chunk, self._rest = chunk[:cut], chunk[cut:]
            if chunk or not fresh:
                break
        if b"\\ud" in chunk or b"\\uD" in chunk:
            chunk = LONE.sub(self._marked, chunk)
        return chunk

    def _marked(self, match: "re.Match[bytes]") -> bytes:
        if match.group(2):
            return match.group(0)
        self.marked = True
        return match.group(1) + b"\\ufdd0"


def _open_escape(chunk: bytes) -> int:
    """Where a run of backslashes and escapes at the end of the chunk begins, so that it is not cut."""
    at = len(chunk)
    for _ in range(2):
        place = chunk.rfind(b"\\", max(0, at - 6), at)
        if place < 0:
            break
        at = place
        while at > 0 and chunk[at - 1] == 0x5C:
            at -= 1
    return at


def has_half(value: Any) -> bool:
    """Whether a text in the value holds a marked half of a surrogate pair."""
    if isinstance(value, str):
        return HALF in value
    if isinstance(value, dict):
        return any(has_half(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(has_half, value))


def events(file: Any) -> Iterator[tuple[int, str, Any]]:
    """(depth after the event, event, value). Raises ijson.JSONError, also for what is nested too deep."""
    depth = 0
    for event, value in ijson.basic_parse(file, use_float=True, multiple_values=True):
        if event in STARTS:
            depth += 1
            if depth > MOST_DEPTH:
                raise ijson.JSONError(f"nested deeper than {MOST_DEPTH} levels")
        elif event in ENDS:
            depth -= 1
        elif event == "string" and len(value) > MAX_LINE_BYTES:
            raise ijson.JSONError(f"a text is longer than {MAX_LINE_BYTES} characters")
        yield depth, event, value


class _Built:
    """One value while it is read. Its builder, ijson's, has no types."""

    def __init__(self) -> None:
        self._builder: Any = ObjectBuilder()
        self._events = 0

    def take(self, event: str, value: Any) -> None:
        self._events += 1
        if self._events > MOST_EVENTS:
            raise ijson.JSONError(f"one row has more than {MOST_EVENTS} values")
        self._builder.event(event, value)

    @property
    def value(self) -> Any:
        return self._builder.value


def values(file: Any) -> Iterator[Any]:
    """The values of a file that holds one or several. Raises ijson.JSONError."""
    built = None
    for depth, event, value in events(file):
        built = built or _Built()
        built.take(event, value)
        if depth == 0:
            yield built.value
            built = None


def members(file: Any, containers: frozenset[Path]) -> Iterator[tuple[Path, str, Any]]:
    """(container, key, value) of the members of the lists and objects under these keys; the key of a list's member is empty.

    Containers do not lie inside each other. Raises ijson.JSONError.
    """
    keys: list[str] = []
    inside: Path | None = None
    level, name, built = 0, "", None
    for depth, event, value in events(file):
        if inside is None:
            if event == "map_key":
                keys[depth - 1 :] = [value]
            elif event in STARTS and len(keys) == depth - 1 and tuple(keys) in containers:
                inside, level, name = tuple(keys), depth, ""
            elif event in ENDS:
                del keys[depth:]
            continue
        if depth < level:
            inside = None
            del keys[depth:]
            continue
        if built is None and event == "map_key":
            name = value
            continue
        built = built or _Built()
        built.take(event, value)
        if depth == level and event != "map_key":
            yield inside, name, built.value
            built = None
