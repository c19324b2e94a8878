"""Rows of a YAML file: ChatterBot's conversations, Rasa's examples of intents, promptfoo's tests, or lists of objects."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml

from shared.contracts.field_names import is_question
from shared.contracts.json_types import Json
from shared.importing.archive import BadArchive

MOST_BYTES = 20 * 2**20  # read as a whole
LISTS = ("tests", "nlu", "examples", "data", "rows", "items", "questions", "conversations", "faq", "faqs")


class Broken(ValueError):
    """line: from 1, or 0 where it is not known."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line = line


try:
    from yaml import CSafeLoader as _Safe
except ImportError:  # a PyYAML without libyaml
    from yaml import SafeLoader as _Safe


class _Loader(_Safe):  # pyrefly: ignore[invalid-inheritance]  of either
    """Plain values only; dates stay texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def yaml_rows(file: BinaryIO) -> Iterator[Json]:
    """Raises Broken for what is no YAML or holds no rows, BadArchive for a file that is too large to be read as a whole."""
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BadArchive(f"a YAML file of more than {MOST_BYTES} bytes is not read; save it as JSONL", param="file")
    try:
        _refuse_aliases(content)
        for document in yaml.load_all(content, _Loader):
            yield from _rows(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Broken(mark.line + 1 if mark else 0, f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, Broken):
            raise
        raise Broken(0, f"not YAML: {' '.join(str(error).split())[:200] or 'nested too deep'}") from error


def _refuse_aliases(content: bytes) -> None:
    """A few lines of aliases can stand for gigabytes."""
    if b"*" not in content or b"&" not in content:
        return
    for event in yaml.parse(content, _Loader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise Broken(line, f"an alias (*{event.anchor}) is not read; write the value out")


def _rows(document: Any) -> Iterator[Json]:
    if isinstance(document, list):
        for item in document:
            yield from _rows_of(item)
        return
    if not isinstance(document, dict):
        return
    lists = {name: part for name, part in document.items() if isinstance(part, list) and part}
    named = next((name for name in LISTS if name in lists), None)
    if named is None and any(is_question(str(name)) for name in document):
        yield from _rows_of(document)
        return
    chosen = [named] if named else [name for name, part in lists.items() if isinstance(part[0], dict | list)]
    for name in chosen:
        for item in lists[name]:
            yield from _rows_of(item, document.get("categories") if name == "conversations" else None)


def _rows_of(item: Any, categories: Any = None) -> Iterator[Json]:
    if isinstance(item, list):  # a conversation as a list of texts
        category = {"category": str(categories[0])} if isinstance(categories, list) and categories else {}
        yield {"conversation": [part if isinstance(part, dict) else str(part) for part in item]} | category
    elif isinstance(item, dict) and "intent" in item and isinstance(item.get("examples"), str):
        lines = (line.strip() for line in item["examples"].splitlines())
        for line in lines:
            if line.startswith("- "):
                yield {"text": line[2:].strip(), "label": str(item["intent"])}
    elif isinstance(item, dict):
        yield {str(name): part for name, part in item.items()}
    else:
        yield {"text": str(item)}
