"""JSON as a stream: the rows of a list somewhere in it, one in memory at a time.

ijson's own `items` keeps the path to every level, so that 100,000 open brackets cost gigabytes; its events cost nothing.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

MOST_DEPTH = 100
STARTS, ENDS = ("start_map", "start_array"), ("end_map", "end_array")
Path = tuple[str, ...]


def _events(file: BinaryIO) -> Iterator[tuple[int, str, Any]]:
    """(depth after the event, event, value). Raises ijson.JSONError, also for what is nested too deep."""
    depth = 0
    for event, value in ijson.basic_parse(file, use_float=True, multiple_values=True):
        if event in STARTS:
            depth += 1
            if depth > MOST_DEPTH:
                raise ijson.JSONError(f"nested deeper than {MOST_DEPTH} levels")
        elif event in ENDS:
            depth -= 1
        yield depth, event, value


def values(file: BinaryIO, path: Path | None) -> Iterator[Any]:
    """The elements of the list under the keys of `path` (of the list that the file is, when there are none), or for None the
    values of a file that holds one or several. Raises ijson.JSONError."""
    level = 0 if path is None else len(path) + 1  # of the list's elements
    inside, keys = path is None, []
    builder: Any = None  # an ObjectBuilder, which has no types, while a value is read
    for depth, event, value in _events(file):
        if not inside:
            if event == "map_key" and depth < level:
                keys[depth - 1 :] = [value]
            inside = event == "start_array" and depth == level and tuple(keys) == path
            continue
        if builder is None and depth < level:
            return
        builder = builder or ObjectBuilder()
        builder.event(event, value)
        if depth == level and event != "map_key":
            yield builder.value
            builder = None


def first_list(file: BinaryIO, most_keys: int = 2) -> Path | None:
    """The keys that lead to the first list of objects; None where there is none, or the JSON is broken."""
    keys: list[str] = []
    before = ""
    try:
        for depth, event, value in _events(file):
            if event == "map_key" and depth <= most_keys:
                keys[depth - 1 :] = [value]
            if (
                before == "start_array"
                and event == "start_map"
                and 0 < depth - 2 <= most_keys
                and len(keys) == depth - 2
            ):
                return tuple(keys)
            if depth == 0:
                return None
            before = event
    except ijson.JSONError:
        pass  # reading it says where it is broken
    return None
