"""Where the rows of a JSON file are: in one list, in lists or objects under keys, or in columns."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import ijson

from shared.contracts.field_names import is_question, is_strong_question
from shared.importing import json_stream
from shared.importing.json_stream import ENDS, STARTS, Path

MOST_KEYS = 2  # levels of objects around the rows
MOST_PLACES = 200  # lists and objects that are looked at
LEAST_PAIRS = 3  # of an object of questions and answers
ALIKE = 0.5  # share of fields that lists of rows of one file have in common
ROW_LISTS = {  # lists that belong to a row itself
    *("messages", "conversations", "conversation", "input", "inputs", "dialog", "dialogue", "chosen", "tools", "choices"),
    *("contents", "turns", "qas", "paragraphs", "annotations"),
}  # fmt: skip
Kind = Literal["values", "members", "pairs", "columns"]


class JsonRows(NamedTuple):
    """How the rows are held. at: the containers' keys; the empty path for the file itself. header: fields of rows that are lists.
    unread: lists and objects beside the rows."""

    kind: Kind = "values"
    at: frozenset[Path] = frozenset()
    header: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        places = sorted(".".join(path) for path in self.at if path)
        shown = ", ".join(map(repr, places[:5])) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
        if self.kind == "columns":
            return f"columns under {shown}" if places else "columns"
        return f"rows under {shown}" if places else ""


@dataclass
class _Place:
    """A list or an object. kinds: what its members are. fields: of its first member that is an object; texts: the first members
    of a list that are texts."""

    is_list: bool
    count: int = 0
    kinds: set[str] = field(default_factory=set)
    keys: list[str] = field(default_factory=list)
    scalars: set[str] = field(default_factory=set)
    fields: frozenset[str] = frozenset()
    texts: list[str] = field(default_factory=list)

    def add(self, key: str, kind: str, value: Any) -> None:
        self.count += 1
        self.kinds.add(kind)
        if len(self.keys) < MOST_PLACES and key:
            self.keys.append(key)
            if kind == "text":
                self.scalars.add(key)
        if self.is_list and kind == "text" and len(self.texts) < MOST_PLACES:
            self.texts.append(str(value))


def json_rows(file: Any) -> JsonRows:
    """Reads a file that begins with an object to its end. What is broken is read as values, and reading it says where."""
    try:
        places, several = _sketch(file)
    except (ijson.JSONError, UnicodeDecodeError):
        return JsonRows("values")
    if several or () not in places:
        return JsonRows("values")
    top = places[()]
    if any(is_strong_question(key) for key in top.scalars) and "map" not in top.kinds:
        return JsonRows("values")
    return (
        _lists(places) or _tables(places) or _columns(places) or _objects(places) or _pairs(top) or JsonRows("values")
    )


def _sketch(file: Any) -> tuple[dict[Path, _Place], bool]:
    """The lists and objects of the first value, and whether others follow."""
    places: dict[Path, _Place] = {}
    frames: list[
        tuple[Path | None, _Place | None]
    ] = []  # of each open level: its path, and its place if it is looked at
    key, first, done = "", 0, False  # first: the level of the first object of a list, whose fields are collected
    names: set[str] = set()
    for depth, event, value in json_stream.events(file):
        if done:
            return places, True
        if event == "map_key":
            key = value
            if depth == first:
                names.add(value)
            continue
        if event in ENDS:
            frames.pop()
            if depth < first:
                owner = frames[-1][1] if frames else None
                if owner is not None and not owner.fields:
                    owner.fields = frozenset(names)
                first = 0
            done = depth == 0
            continue
        kind = {"start_map": "map", "start_array": "list"}.get(event, "text")
        path, place = frames[-1] if frames else (None, None)
        if place is not None:
            place.add("" if place.is_list else key, kind, value)
        if event in STARTS:
            inner: Path | None = None
            if not frames:
                inner = ()
            elif path is not None and place is not None and not place.is_list and len(path) < MOST_KEYS:
                inner = (*path, key)
            looked = _Place(event == "start_array") if inner is not None and len(places) < MOST_PLACES else None
            if looked is not None and inner is not None:
                places[inner] = looked
            if kind == "map" and place is not None and not place.fields and not first:
                first, names = depth, set()
            frames.append((inner if looked is not None else None, looked))
    return places, False


def _others(places: dict[Path, _Place], used: frozenset[Path]) -> tuple[str, ...]:
    """Lists and objects of other rows that stand beside those that are used."""
    return tuple(
        ".".join(path)
        for path, place in places.items()
        if path and path not in used and place.is_list and place.kinds & {"map", "list"}
        and not any(path[: len(one)] == one for one in used)
    )  # fmt: skip


def _lists(places: dict[Path, _Place]) -> JsonRows | None:
    lists = [
        path
        for path, place in places.items()
        if place.is_list and place.kinds == {"map"} and path and path[0] not in ROW_LISTS
    ]
    if not lists:
        return None
    fields = places[lists[0]].fields
    used = frozenset(path for path in lists if _alike(fields, places[path].fields))
    return JsonRows("members", used, unread=_others(places, used))


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return one == other or len(one & other) >= ALIKE * len(one | other)


def _tables(places: dict[Path, _Place]) -> JsonRows | None:
    """Lists of lists under keys, such as pandas' orient="split" or {"train": [["text", "label"], ...]}."""
    tables = [
        path
        for path, place in places.items()
        if path and place.is_list and place.kinds == {"list"} and path[0] not in ROW_LISTS
    ]
    if not tables:
        return None
    named = next((places[path].texts for path in places if path[-1:] in (("columns",), ("header",))), [])
    used = frozenset(tables)
    return JsonRows("members", used, tuple(named), _others(places, used))


def _columns(places: dict[Path, _Place]) -> JsonRows | None:
    """Lists of equal length, or objects with equal keys, under the names of fields."""
    for path, place in places.items():
        inner = [places[(*path, key)] for key in place.keys if (*path, key) in places]
        if place.is_list or len(inner) < 2 or len({(one.is_list, one.count) for one in inner}) != 1:
            continue
        flat = all(one.count > 1 and one.kinds <= {"text"} for one in inner)
        if (
            flat
            and len(inner) == place.count
            and any(is_question(key) or is_question(key.removesuffix("s")) for key in place.keys)
        ):
            return JsonRows("columns", frozenset([path]))
    return None


def _objects(places: dict[Path, _Place]) -> JsonRows | None:
    """Objects under keys, such as pandas' orient="index": {"q1": {"question": ...}, ...}."""
    for path, place in places.items():
        if place.is_list or place.kinds != {"map"} or not place.count:
            continue
        inner = [places[(*path, key)] for key in place.keys if (*path, key) in places]
        alike = all(set(inner[0].keys) & set(one.keys) for one in inner) if inner else len(path) == MOST_KEYS
        if alike and (place.count > 1 or any(is_question(key) for key in (inner[0].keys if inner else place.fields))):
            return JsonRows("members", frozenset([path]))
    return None


def _pairs(top: _Place) -> JsonRows | None:
    """An object of questions and their answers: {"How do I pay?": "By card.", ...}."""
    spoken = sum(" " in key for key in top.keys)
    if top.kinds == {"text"} and top.count >= LEAST_PAIRS and 2 * spoken > len(top.keys):
        return JsonRows("pairs", frozenset([()]))
    return None
