"""Records that hold several rows, or hold their row in a nested object, as flat rows. Pure functions, no I/O.

SQuAD's paragraphs, seed tasks with instances, phrasings of an intent, trees of messages, rows in an envelope: what is inside
becomes rows, and each takes the plain fields that stand around it.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from shared.contracts.field_names import is_answer, is_question, is_strong_question, likeliest_answer, simple
from shared.contracts.json_types import Json
from shared.contracts.mapping_hints import STAR
from shared.contracts.row_shapes import NOTE

MOST_DEPTH = 4
MOST_ROWS = 1_000_000  # of one record
ENVELOPES = {
    "row",
    "source",
    "fields",
    "data",
    "node",
    "attributes",
    "record",
    "item",
    "doc",
    "json",
    "value",
    "values",
    "example",
}
PHRASINGS = {
    "patterns",
    "questions",
    "utterances",
    "examples",
    "queries",
    "phrases",
    "trainingphrases",
    "variants",
    "userphrases",
}
CONVERSATIONS = {"conversations", "conversation", "dialogues", "dialogs", "chats"}
TALKS = ("conversationid", "dialogueid", "dialogid", "sessionid", "chatid", "threadid")
TURN = ("role", "from", "speaker", "sender")  # a field of a conversation's turn


def unfolded(record: Json) -> list[Json] | None:
    """The rows inside a record; None for a record that is a row."""
    for part in record.values():  # most records are flat: this is all that they cost
        if part.__class__ is dict or part.__class__ is list:
            break
    else:
        return None
    names = {simple(name): name for name in record}
    tree = _tree(record)
    if tree is not None:
        return tree
    for name in CONVERSATIONS & names.keys():
        talks = record[names[name]]
        if _is_list_of(talks, list):
            return [_around(record, names[name]) | {"conversation": talk} for talk in talks]
    if any(_is_list_of(part, dict) and not part[0].keys().isdisjoint(TURN) for part in record.values()):
        return None  # a conversation
    if any(is_strong_question(name) and isinstance(part, str) for name, part in record.items()):
        return _instances(record, names)
    return _phrasings(record, names) or _inner(record, 0) or _envelope(record, names)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, kind) for part in value)


def _around(record: Json, taken: str, several: bool = True) -> Json:
    """The other fields of a record; its id belongs to no single one of several rows."""
    return {name: part for name, part in record.items() if name != taken and not (several and simple(name) == "id")}


def _instances(record: Json, names: dict[str, str]) -> list[Json] | None:
    """Self-instruct's seed tasks: one instruction with several inputs and outputs."""
    field = names.get("instances")
    if field is None or not _is_list_of(record[field], dict) or any(is_answer(name) for name in record):
        return None
    around = _around(record, field, several=len(record[field]) > 1)
    return [around | part for part in record[field]]


def _phrasings(record: Json, names: dict[str, str]) -> list[Json] | None:
    """Several ways to ask, with one answer or the label of an intent: they are one group."""
    field = next((names[name] for name in names if name in PHRASINGS and _is_list_of(record[names[name]], str)), None)
    if field is None or any(is_question(name) for name in record):
        return None
    answer = likeliest_answer([name for name in record if name != field and record[name]])
    if answer is None:
        label = next((names[name] for name in ("intent", "tag", "label", "name") if name in names), None)
        if label is None:
            return None
        answer = label
    group = next(
        (str(record[names[name]])[:200] for name in ("tag", "intent", "id") if names.get(name)), record[field][0][:200]
    )
    rest = {name: part for name, part in record.items() if name not in (field, answer, "id")}
    return [rest | {"question": text, "answer": record[answer], "group": group} for text in record[field]]


def _inner(record: Json, depth: int) -> list[Json] | None:
    """Rows in a list of objects, at any depth; what surrounds them goes with each of them."""
    for name, part in record.items():
        if not _is_list_of(part, dict):
            continue
        around = _around(record, name)
        if all(any(is_question(key) and isinstance(value, str) for key, value in one.items()) for one in part):
            return [_grouped(around) | one for one in part]
        if depth < MOST_DEPTH:
            inner = [_inner(one, depth + 1) for one in part]
            if any(inner):
                return [_grouped(around) | row for rows in inner for row in rows or []][:MOST_ROWS]
    return None


def _grouped(around: Json) -> Json:
    """The fields around rows: a document's title keeps them together, for it is no question."""
    made = {name: part for name, part in around.items() if simple(name) != "title"}
    title = next((part for name, part in around.items() if simple(name) == "title" and isinstance(part, str)), None)
    return made | ({"group": title[:200]} if title and "group" not in made else {})


def _envelope(record: Json, names: dict[str, str]) -> list[Json] | None:
    """A row that is the only object with a question inside: a page of the dataset viewer, a search index, a labelling tool."""
    if any(is_question(name) and isinstance(part, str) for name, part in record.items()):
        return None
    for simple_name, name in names.items():
        inner = record[name]
        if simple_name in ENVELOPES and isinstance(inner, dict) and any(is_question(key) for key in inner):
            rest = {key: part for key, part in record.items() if key != name}
            labels = _labels(rest)
            return [rest | inner | ({"answer": labels} if labels and not any(map(is_answer, inner)) else {})]
    return None


def _labels(record: Json) -> str | None:
    """What a person chose or wrote, of Label Studio's annotations."""
    for one in record.get("annotations") or record.get("completions") or []:
        for result in (one.get("result") if isinstance(one, dict) else None) or []:
            value = result.get("value") if isinstance(result, dict) else None
            if isinstance(value, dict):
                for name in ("text", "choices", "labels"):
                    if value.get(name):
                        return value[name][0] if isinstance(value[name], list) else str(value[name])
    return None


def _tree(record: Json) -> list[Json] | None:
    """A tree of messages (Open Assistant): the conversation to each answer, the best-ranked one where there are several."""
    root = record if {"replies", "role"} <= record.keys() else record.get("prompt")
    if not isinstance(root, dict) or not isinstance(root.get("replies"), list) or not isinstance(root.get("text"), str):
        return None
    named = {"group": str(record.get("message_tree_id") or root.get("message_id") or root["text"])[:200]}
    rest = named | ({} if root is record else _around(record, "prompt"))
    return [rest | talk for talk in islice(_talks(root), MOST_ROWS)]


LESS = "other answers, or questions without one, stand in the same tree and are not used"


def _talks(node: Json) -> Iterator[Json]:
    """Conversations of a tree, with a note where a part of it is left out. Walked without recursion: a tree may be deep."""
    open_nodes: list[tuple[Json, list[Json], bool]] = [(node, [], False)]
    while open_nodes:
        node, before, less = open_nodes.pop()
        if len(before) >= MOST_TURNS:
            yield _talk(before, less)
            before, less = [], False
        here = [*before, {"role": node.get("role", "prompter"), "text": node.get("text")}]
        replies = all_replies = [one for one in node.get("replies") or [] if isinstance(one, dict)]
        if len(here) > 1 and here[-1]["role"] != "prompter":  # questions without an answer end no conversation
            replies = [one for one in replies if one.get("replies")]
        elif here[-1]["role"] == "prompter" and replies:  # of the answers to one question the best one goes on
            replies = [min(replies, key=lambda one: one["rank"] if isinstance(one.get("rank"), int) else 0)]
        less = less or len(replies) < len(all_replies)
        if not replies:
            yield _talk(here, less)
        open_nodes += [(one, here, less) for one in reversed(replies)]


def _talk(turns: list[Json], less: bool) -> Json:
    return {"conversation": turns} | ({NOTE: LESS} if less else {})


MOST_TURNS = 1000  # of one conversation; a longer one goes on as another
MOST_MESSAGES = 1_000_000  # of a file of single messages, which are put together in memory
LINKS = ("parentid", "parentmessageid", "inreplyto", "replyto")
SPEAKER = ("role", "speaker", "sender", "from", "author", "participant")
SAID = ("content", "text", "message", "utterance", "value", "body")


class Messages(NamedTuple):
    """The names of the fields of single messages. link: of the message before; talk: of the conversation."""

    speaker: str
    said: str
    link: str | None
    talk: str | None
    id: str | None


def single_messages(fields: Iterable[str]) -> Messages | None:
    """How records that are single messages of conversations are put together; None for other records."""
    names = {simple(name): name for name in fields}
    if any(is_strong_question(name) for name in names.values()) or "replies" in names:
        return None
    speaker = next((names[name] for name in SPEAKER if name in names), None)
    said = next((names[name] for name in SAID if name in names), None)
    talk = next((names[name] for name in TALKS if name in names), None)
    link = next((names[name] for name in LINKS if name in names), None)
    own = next((names[name] for name in ("messageid", "usermessageid", "id") if name in names), None)
    if not speaker or not said or not (talk or (link and own)):
        return None
    return Messages(speaker, said, link if own else None, talk, own)


def conversations(messages: Iterable[Json], named: Messages) -> Iterator[Json]:
    """Single messages as conversations: by their links where they have any, else by the conversation that they name."""
    kept = list(messages)
    if named.link and named.id:
        yield from _linked(kept, named, named.link, named.id)
        return
    talks: dict[str, list[Json]] = {}
    for one in kept:
        turn = {"role": one.get(named.speaker), "text": one.get(named.said)}
        talks.setdefault(str(one.get(named.talk or "")), []).append(turn)
    yield from ({"conversation": talk, "group": name[:200]} for name, talk in talks.items())


def _linked(kept: list[Json], named: Messages, link: str, own: str) -> Iterator[Json]:
    """Trees by the links of messages. A circle of links is cut, so that every message is read."""
    nodes: list[Json] = [
        {"role": one.get(named.speaker), "text": one.get(named.said), "rank": one.get("rank"), "replies": []}
        for one in kept
    ]
    by_id: dict[str, int] = {}
    for place, one in enumerate(kept):
        by_id.setdefault(str(one.get(own)), place)
    before = [by_id.get(str(one[link])) if one.get(link) is not None else None for one in kept]
    roots = _roots(before)
    for place, above in enumerate(before):
        if above is not None and place not in roots:
            nodes[above]["replies"].append(nodes[place])
    for number, place in enumerate(sorted(roots), start=1):
        yield from (talk | {"group": f"tree-{number}"} for talk in _talks(nodes[place]))


def _roots(before: list[int | None]) -> set[int]:
    """The places of messages without one before them, and of one in each circle."""
    roots = {place for place, above in enumerate(before) if above is None}
    seen = [0] * len(before)  # the walk that a message was met on
    for walk, start in enumerate(range(len(before)), start=1):
        place: int | None = start
        while place is not None and not seen[place]:
            seen[place] = walk
            place = before[place]
        if place is not None and seen[place] == walk:
            roots.add(place)
    return roots


def starred(record: Json, paths: dict[str, str]) -> list[Json] | None:
    """Rows of a mapping with stars: `{"question": "qas.*.ask", "context": "text"}` gives a row for each of qas.

    The rows have the mapping's fields. None where no path has a star.
    """
    if not any(STAR in path for path in paths.values()):
        return None
    return _spread(record, paths)[:MOST_ROWS]


def _spread(record: Any, paths: dict[str, str]) -> list[Json]:
    first = next((path for path in paths.values() if STAR in path), None)
    if first is None:
        return [{field: _at(record, path) for field, path in paths.items() if path}]
    stem = first.partition(STAR)[0]
    parts = _at(record, stem)
    parts = list(parts.values()) if isinstance(parts, dict) else parts if isinstance(parts, list) else []
    inner = {field: path.removeprefix(stem + STAR).lstrip(".") for field, path in paths.items() if _under(path, stem)}
    outer = {field: _at(record, path) for field, path in paths.items() if path and not _under(path, stem)}
    return [outer | row for part in parts for row in _spread(part, inner)]


def _under(path: str, stem: str) -> bool:
    return path.startswith(stem + STAR)


def _at(value: Any, path: str) -> Any:
    """The value at a dotted path; the value itself for an empty one, None where there is none."""
    for name in filter(None, path.split(".")):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 9:
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value
