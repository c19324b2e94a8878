"""Stored chats as rows of a dataset. A row's id is the completion's, so that a chat that is to be forgotten can be found in it.

A correction becomes the reference, and the served answer the rejected one beside it; answers with a thumb up become references if that is
asked for. All other chats are questions without an answer. Of chats that ask the same, the one with the best feedback is taken. Rows whose
question is already in the dataset that they join are left out, except corrections, which replace the row.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from shared.contracts.data import LineError, Question, as_upload, parse_row
from shared.contracts.errors import UserError
from shared.contracts.imports import MOST_ROWS, CompletionsOptions
from shared.contracts.json_types import Json
from shared.contracts.openai_rows import NotUsable, answer_of
from shared.contracts.steps import content_hash
from shared.jobs.chat_store import Judged
from shared.jobs.records import ChatOriginRecord, ChatRecord

GOES_ON = "chats that go on with a message of the assistant"
HELD = "questions that the dataset has"
LEARNED = "questions that the model has learned"
ASKED_TWICE = "chats that ask the same as another one"
UNUSABLE = "references: answers with a thumb up that were cut off or hold no text"


class Verdict(NamedTuple):
    """What the newest feedback that says it says."""

    rating: str | None = None
    correction: str | None = None


class ChatRows(NamedTuple):
    """rows: as they can be uploaded. origins: whose chats they are, where anybody was named. corrected: ids of rows whose reference a
    person wrote."""

    rows: list[Json]
    origins: list[ChatOriginRecord]
    corrected: frozenset[str] = frozenset()


def rows_of_chats(judged: Iterable[Judged], options: CompletionsOptions, left_out: Counter[str]) -> ChatRows:
    """judged: oldest first. left_out: counts what is not taken, by reason. Raises UserError for more chats than an import holds."""
    best: dict[str, tuple[int, ChatRecord, Question]] = {}
    corrected = set[str]()
    for number, (chat, feedback) in enumerate(judged, start=1):
        verdict = Verdict(
            next((one.rating for one in feedback if one.rating), None),
            next((one.correction for one in feedback if one.correction), None),
        )
        row = _row(number, chat, verdict, options.approved, left_out)
        if row is None:
            continue
        asked = asked_in(row)
        if verdict.correction is not None:
            corrected.add(chat.id)
        worth = (row.reference is not None) + (verdict.correction is not None)
        before = best.get(asked)
        left_out[ASKED_TWICE] += before is not None
        if before is None or worth >= before[0]:  # of equals the newest
            best[asked] = (worth, chat, row)
        if len(best) > MOST_ROWS and options.limit is None:
            raise UserError(
                f"more than {MOST_ROWS} chats; set source.limit or a time span",
                param="source.limit",
                code="too_many_rows",
            )
    taken = sorted(((chat, row) for _, chat, row in best.values()), key=lambda pair: pair[0].id)
    if options.limit is not None and len(taken) > options.limit:
        left_out["chats before the newest ones that the limit allows"] += len(taken) - options.limit
        taken = taken[-options.limit :]
    named = [chat for chat, _ in taken if chat.user or chat.safety_identifier]
    origins = [ChatOriginRecord(chat.project_id, chat.id, chat.user, chat.safety_identifier) for chat in named]
    rows = [as_upload(row) for _, row in taken]
    return ChatRows(rows, origins, frozenset(corrected.intersection(chat.id for chat, _ in taken)))


def _row(number: int, chat: ChatRecord, verdict: Verdict, approved: bool, left_out: Counter[str]) -> Question | None:
    messages = chat.request.get("messages") or []
    if messages and messages[-1].get("role") == "assistant":
        left_out[GOES_ON] += 1
        return None
    given = {"id": chat.id, "messages": messages, "source": f"answered by {chat.served}"}
    given |= {name: chat.request[name] for name in ("tools", "functions") if chat.request.get(name)}
    answer = _answer(chat)
    if verdict.correction is not None:
        given["reference"] = verdict.correction
        if answer and verdict.rating != "up" and answer.strip() != verdict.correction.strip():
            given["rejected"] = answer
    elif verdict.rating == "up" and approved:
        left_out[UNUSABLE] += answer is None
        given |= {"reference": answer} if answer else {}
    row = parse_row(number, given)
    if isinstance(row, LineError):
        left_out[f"{row.param or 'row'}: {row.code}"] += 1
        return None
    return row


def _answer(chat: ChatRecord) -> str | None:
    """The text of the first choice, calls included; None for one that was cut off or has none."""
    choice = next(iter(chat.answer.get("choices") or []), {})
    if choice.get("finish_reason") == "length":
        return None
    try:
        return answer_of(choice.get("message") or {}).strip() or None
    except (NotUsable, ValueError):
        return None


class Additions(NamedTuple):
    """What changes a dataset: rows that come, rows whose fields change, and ids of rows that go because a correction replaces them."""

    append: list[Json]
    edit: list[Json]
    remove: list[str]


def additions(
    made: ChatRows, held: Iterable[Question], learned: Iterable[Question], left_out: Counter[str]
) -> Additions:
    """held: rows of the dataset. learned: of others that the model learned from; a correction of theirs comes all the same. A row that
    replaces another one takes its split and group."""
    wanted = {asked_in(_read(row)): row for row in made.rows}
    add, changes = Additions([], [], []), dict[str, Question]()
    for row in held:
        asked = asked_in(row)
        if asked in wanted and asked not in changes:
            changes[asked] = row
    known = {asked: row.reference for row in learned if (asked := asked_in(row)) in wanted}
    for asked, row in wanted.items():
        before, right = changes.get(asked), row["id"] in made.corrected
        if before is not None:
            if _is_better(row, before.reference, right):
                _replace(add, row, before)
            else:
                left_out[HELD] += 1
        elif asked in known and not _is_better(row, known[asked], right):
            left_out[LEARNED] += 1
        else:
            add.append.append(row)
    return add


def _is_better(row: Json, reference: str | None, corrected: bool) -> bool:
    """A reference where there was none, or another one that a person wrote."""
    given = row.get("reference")
    return given is not None and given != reference and (reference is None or corrected)


def _replace(add: Additions, row: Json, before: Question) -> None:
    if before.id == row["id"]:
        add.edit.append({name: row.get(name) for name in ("id", "reference", "rejected")})
        return
    add.remove.append(before.id)
    place = {"split": before.split.value} if before.split else {}
    add.append.append(row | place | ({"group": before.group} if before.group else {}))


def _read(row: Json) -> Question:
    made = parse_row(1, row)
    assert isinstance(made, Question), "it was read from a chat"
    return made


def asked_in(row: Question) -> str:
    """The same for two chats that ask the same: words and tools, whatever their case and blanks."""
    words = " ".join(row.text.casefold().split())
    return content_hash([words, row.tools])
