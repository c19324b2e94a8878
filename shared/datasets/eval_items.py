"""The items of an eval's run, and what a model is asked of each. Both the API, which checks a run, and the orchestrator, which does it,
read them here."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from shared.artifacts.store import Artifacts
from shared.artifacts.uploads import Uploads
from shared.contracts.conversation import SYSTEM_ROLES, text_of
from shared.contracts.data import LineError, Question, bounded_lines, json_line
from shared.contracts.errors import UserError
from shared.contracts.evals import MOST_ITEMS, FileById, FileContent, InputMessages, ItemReference
from shared.contracts.json_types import Json
from shared.contracts.templates import MissingField, at_path, filled
from shared.datasets.files import rows_of
from shared.datasets.splits import CODES
from shared.jobs.catalog import Catalog
from shared.jobs.records import FileRecord

PARAM = "data_source.source"
ROLES = (*SYSTEM_ROLES, "user", "assistant")


class EvalItem(NamedTuple):
    """output_text: a model's answer that is given; None: there is none."""

    item: Json
    output_text: str | None


class Unasked(ValueError):
    """Nothing can be asked of an item; the message says why."""


def items_of(
    source: FileContent | FileById, file: FileRecord | None, uploads: Uploads, artifacts: Artifacts, catalog: Catalog
) -> list[EvalItem]:
    """All of them, in their order. file: that `source` names. Raises UserError for rows that are
    no items, and for too many; ArtifactMissing."""
    if isinstance(source, FileContent) or file is None:
        given = source.content if isinstance(source, FileContent) else []
        return [_given(number, one.model_dump()) for number, one in enumerate(given, start=1)]
    if file.n_rows is not None:
        return _of_dataset(source, file, artifacts, catalog)
    if source.split is not None:
        raise UserError(
            f"file {file.id} is no dataset, so it has no splits", param=f"{PARAM}.split", code="invalid_value"
        )
    if file.status == "error":
        raise UserError(
            f"file {file.id} has bad lines; items with `item` and `sample` are uploaded with the purpose evals",
            param=f"{PARAM}.id",
            code="invalid_file",
        )
    with uploads.path(file.sha256).open("rb") as lines:
        return list(_bounded(_of_lines(bounded_lines(lines))))


def _of_dataset(source: FileById, file: FileRecord, artifacts: Artifacts, catalog: Catalog) -> list[EvalItem]:
    stored = rows_of(file, artifacts, catalog)
    wanted = range(len(stored))
    if source.split is not None:
        wanted = (stored.columns["split"] == CODES[source.split]).nonzero()[0].tolist()
    return list(_bounded(EvalItem(item_of_row(row), None) for row in stored.read(wanted)))


def item_of_row(row: Question) -> Json:
    """A dataset's row as an item: its own fields, where they are set."""
    kept = row.model_dump(mode="json", exclude_none=True, exclude={"group", "split", "question"})
    return kept | {"question": row.text if row.messages is None else row.asked}


def _bounded(items: Iterable[EvalItem]) -> Iterator[EvalItem]:
    for number, item in enumerate(islice(items, MOST_ITEMS + 1), start=1):
        if number > MOST_ITEMS:
            raise UserError(
                f"a run has at most {MOST_ITEMS} items; name a split, or upload fewer",
                param=PARAM,
                code="too_many_items",
            )
        yield item


def _of_lines(lines: Iterable[bytes]) -> Iterator[EvalItem]:
    for number, raw in enumerate(lines, start=1):
        value = json_line(number, raw)
        if isinstance(value, LineError):
            raise UserError(f"line {number}: {value.message}", param=f"{PARAM}.id", code=value.code)
        if value is not None:
            yield _given(number, value if isinstance(value.get("item"), dict) else {"item": value})


def _given(number: int, value: Json) -> EvalItem:
    sample = value.get("sample")
    text = sample.get("output_text") if isinstance(sample, dict) else None
    if sample is not None and not isinstance(text, str):
        raise UserError(f'row {number}: a sample is {{"output_text": TEXT}}', param=PARAM, code="invalid_row")
    return EvalItem(value["item"], text)


def messages_of(wanted: InputMessages | None, item: Json) -> list[Json]:
    """What a model is asked of an item: OpenAI's messages, texts only. Raises Unasked."""
    try:
        if wanted is None:
            asked: Any = item.get("messages") or item.get("question")
            if not asked:
                raise Unasked("the item has no `messages` and no `question`: give data_source.input_messages")
        elif isinstance(wanted, ItemReference):
            asked = at_path(wanted.item_reference.strip(), item, {})
        else:
            asked = [{"role": one.role, "content": filled(one.text, item, {})} for one in wanted.template]
    except MissingField as missing:
        raise Unasked(str(missing)) from None
    return _read(asked)


def _read(asked: Any) -> list[Json]:
    given: Sequence[Any] = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise Unasked("a text or a list of messages is expected")
    messages = []
    for number, one in enumerate(given):
        content = one.get("content")
        parts = content if isinstance(content, list) else []
        if one.get("role") not in ROLES or not isinstance(content, str | list):
            raise Unasked(f"message {number} is none of a role of {', '.join(ROLES)} with a text")
        if any(not isinstance(part, dict) or not isinstance(part.get("text"), str) for part in parts):
            raise Unasked(f"message {number} holds more than text")
        messages.append({"role": one["role"], "content": text_of(content)})
    while messages and messages[-1]["role"] == "assistant":  # the answer that a dataset's row has
        messages.pop()
    if not any(one["role"] == "user" and one["content"].strip() for one in messages):
        raise Unasked("no message of the user")
    return messages
