"""Stored chats. A chat goes with its feedback: by its id, by its user, by age, or when its project's chats take too much room.

Whose chats became rows of datasets is noted apart (origins), since the rows outlive the chats.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    Text,
    and_,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from shared.contracts.errors import NotFound
from shared.contracts.imports import CompletionsOptions, OfRecipe
from shared.db.engine import Values, insert_once, reading, writing
from shared.db.fetch import fetch_all, fetch_first
from shared.db.paging import keyset_page
from shared.jobs.records import ChatOriginRecord, ChatRecord, FeedbackRecord
from shared.jobs.tables import chat_origins, chats, feedback, recipe_chats, recipes

AT_ONCE = 500  # rows of one statement
TRIMMED_TO = 0.95  # of the room, so that not every further chat removes one


class ChatFilter(NamedTuple):
    """model: an alias or a base, or alias@version. metadata: pairs that a chat must have; empty: chats without any; None: whatever
    they have. since, until: Unix seconds. feedback: chats with one of these, as CompletionsOptions has them; empty: all. agreement_below:
    chats with several choices of which a smaller share says the same."""

    model: str | None = None
    metadata: Mapping[str, str] | None = None
    since: float | None = None
    until: float | None = None
    feedback: Collection[str] = ()
    agreement_below: float | None = None

    @classmethod
    def of(cls, options: CompletionsOptions) -> "ChatFilter":
        return cls(
            options.model,
            options.metadata,
            options.since,
            options.until,
            options.feedback,
            options.agreement_below,
        )


class Judged(NamedTuple):
    """A chat with what was said of it, the newest first."""

    chat: ChatRecord
    feedback: list[FeedbackRecord]


class Forgotten(NamedTuple):
    """completions: ids of removed chats. feedback: how many rows went, those on other people's chats included. rows: ids of rows
    that were made of chats."""

    completions: list[str]
    feedback: int
    rows: list[str]


class ChatStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, rows: Sequence[Values]) -> None:
        """All in one transaction. rows: by column."""
        with writing(self.engine) as connection:
            for row in rows:
                insert_once(connection, chats, row)

    def get(self, project_id: str, completion_id: str) -> ChatRecord:
        """Raises NotFound, also for another project's chat."""
        with reading(self.engine) as connection:
            chat = fetch_first(connection, ChatRecord, select(chats).where(_one(project_id, completion_id)))
        if chat is None:
            raise no_chat(completion_id)
        return chat

    def page(
        self, project_id: str, after: str | None, limit: int, filter: ChatFilter, ascending: bool
    ) -> tuple[list[ChatRecord], bool]:
        """Raises UserError for an unknown `after`."""
        mine = select(chats).where(chats.c.project_id == project_id)
        query = mine.where(*_matching(filter))
        noun = "stored chat completion"
        return keyset_page(
            self.engine, ChatRecord, query, chats.c.id, after, limit, noun, cursors=mine, ascending=ascending
        )

    def judged(self, project_id: str, filter: ChatFilter, of: OfRecipe | None = None) -> Iterator[Judged]:
        """All chats of a filter with their feedback, oldest first. of: those that this run of a recipe has taken."""
        query = select(chats).where(chats.c.project_id == project_id, *_matching(filter)).order_by(chats.c.id)
        if of is not None:
            query = query.join(recipe_chats, recipe_chats.c.completion_id == chats.c.id).where(_taken_by(of))
        last = ""
        while True:
            with reading(self.engine) as connection:
                part = fetch_all(connection, ChatRecord, query.where(chats.c.id > last).limit(AT_ONCE))
                if not part:
                    return
                said = select(feedback).where(feedback.c.completion_id.in_([chat.id for chat in part]))
                newest = fetch_all(connection, FeedbackRecord, said.order_by(feedback.c.updated_at.desc()))
            by_chat: dict[str, list[FeedbackRecord]] = {}
            for one in newest:
                by_chat.setdefault(one.completion_id, []).append(one)
            for chat in part:
                yield Judged(chat, by_chat.get(chat.id, []))
            last = part[-1].id

    def set_metadata(self, project_id: str, completion_id: str, metadata: Mapping[str, str]) -> ChatRecord:
        """Raises NotFound."""
        changed = update(chats).where(_one(project_id, completion_id)).values(metadata=dict(metadata))
        with writing(self.engine) as connection:
            chat = fetch_first(connection, ChatRecord, changed.returning(chats))
        if chat is None:
            raise no_chat(completion_id)
        return chat

    # what recipes take

    def count(self, project_id: str, filter: ChatFilter) -> int:
        query = select(func.count()).select_from(chats).where(chats.c.project_id == project_id, *_matching(filter))
        with reading(self.engine) as connection:
            return connection.execute(query).scalar_one()

    def take(self, project_id: str, filter: ChatFilter, of: OfRecipe) -> None:
        """Mark what is new to the recipe as taken by this run. A run takes once: what it has taken before a crash is what it has."""
        now = time.time()
        with writing(self.engine) as connection:
            # the lock: an orchestrator that lost the import may take at the same moment as the one that has it
            mine = select(recipes.c.id).where(recipes.c.id == of.id).with_for_update(key_share=True)
            if connection.execute(mine).first() is None:
                return  # it was deleted
            if connection.execute(select(recipe_chats.c.run).where(_taken_by(of)).limit(1)).first() is not None:
                return
            new = select(chats.c.id).where(chats.c.project_id == project_id, *_matching(filter), is_new(of.id))
            for part in _parts(list(connection.execute(new).scalars())):
                mine = (recipe_chats.c.recipe_id == of.id) & recipe_chats.c.completion_id.in_(part)
                connection.execute(delete(recipe_chats).where(mine))
                mark = {"recipe_id": of.id, "project_id": project_id, "run": of.run, "taken_at": now}
                connection.execute(insert(recipe_chats), [mark | {"completion_id": name} for name in part])

    # removal

    def delete(self, project_id: str, completion_id: str) -> None:
        """Raises NotFound."""
        with writing(self.engine) as connection:
            if not _remove(connection, _one(project_id, completion_id)).chats:
                raise no_chat(completion_id)

    def forget(
        self, project_id: str, people: Collection[str] = (), completions: Collection[str] = (), dry_run: bool = False
    ) -> Forgotten:
        """Remove (dry_run: find) the chats of these users and those of these ids, what is said of them, and what these users said
        of others. The names of the users are removed from the origins of rows, whose ids are returned."""
        people, completions = list(people), list(completions)
        with writing(self.engine) as connection:
            ids = [*completions, *_ids_of(connection, chats, project_id, people)]
            rows = [*completions, *_ids_of(connection, chat_origins, project_id, people)]
            there, said = _present(connection, project_id, ids, people)
            if not dry_run:
                _erase(connection, project_id, there, people, rows)
        return Forgotten(there, said, sorted({*rows, *there}))

    def trim(self, project_id: str, most_bytes: int) -> int:
        """Remove the oldest chats of a project whose chats take more room; returns how many."""
        mine = chats.c.project_id == project_id
        with writing(self.engine) as connection:
            total = connection.execute(select(func.coalesce(func.sum(chats.c.bytes), 0)).where(mine)).scalar_one()
            if total <= most_bytes:
                return 0
            taken = select(chats.c.id, func.sum(chats.c.bytes).over(order_by=chats.c.id).label("sum")).where(mine)
            ordered = taken.subquery()
            excess = total - TRIMMED_TO * most_bytes
            before = ordered.c.sum - chats.c.bytes < excess  # the first that reaches it goes, too
            old = select(ordered.c.id).join(chats, chats.c.id == ordered.c.id).where(before)
            return _remove(connection, chats.c.id.in_(old)).chats

    def expire(self, cutoff: float, dry_run: bool = False) -> int:
        """Remove (dry_run: count) the chats from before the cutoff (Unix seconds); returns how many."""
        old = chats.c.created_at < cutoff
        if dry_run:
            with reading(self.engine) as connection:
                return connection.execute(select(func.count()).select_from(chats).where(old)).scalar_one()
        with writing(self.engine) as connection:
            return _remove(connection, old).chats

    # origins of rows

    def note_origins(self, origins: Sequence[ChatOriginRecord]) -> set[str]:
        """Of chats that become rows of a dataset; before the dataset is there. Returns the ids of those that have gone since they
        were read, which must not become rows."""
        with writing(self.engine) as connection:
            there = set[str]()
            for part in _parts([one.completion_id for one in origins]):
                there.update(connection.execute(select(chats.c.id).where(chats.c.id.in_(part))).scalars())
            for one in origins:
                if one.completion_id not in there:
                    continue
                values = {
                    "project_id": one.project_id,
                    "completion_id": one.completion_id,
                    "user": one.user,
                    "safety_identifier": one.safety_identifier,
                }
                insert_once(connection, chat_origins, values)
        return {one.completion_id for one in origins} - there


def is_new(recipe_id: str) -> ColumnElement[bool]:
    """Of a chat: no run of the recipe has taken it, or it was corrected since."""
    mark = (recipe_chats.c.recipe_id == recipe_id) & (recipe_chats.c.completion_id == chats.c.id)
    corrected = and_(
        feedback.c.completion_id == recipe_chats.c.completion_id,
        feedback.c.correction != "",
        feedback.c.updated_at > recipe_chats.c.taken_at,
    )
    again = select(recipe_chats.c.run).where(mark, select(feedback.c.id).where(corrected).exists())
    return or_(~select(recipe_chats.c.run).where(mark).exists(), again.exists())


def new_chats(connection: Connection, project_id: str, filter: ChatFilter, recipe_id: str) -> int:
    """How many chats of a filter are new to a recipe."""
    mine = (chats.c.project_id == project_id, *_matching(filter), is_new(recipe_id))
    return connection.execute(select(func.count()).select_from(chats).where(*mine)).scalar_one()


def _taken_by(of: OfRecipe) -> ColumnElement[bool]:
    return (recipe_chats.c.recipe_id == of.id) & (recipe_chats.c.run == of.run)


def no_chat(completion_id: str) -> NotFound:
    return NotFound(
        f"no stored chat completion {completion_id!r}; chats are stored with store: true",
        param="completion_id",
        code="completion_not_found",
    )


class _Removed(NamedTuple):
    chats: int
    feedback: int


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """Each id once, in lists that a statement can hold."""
    once = list(dict.fromkeys(ids))
    for start in range(0, len(once), AT_ONCE):
        yield once[start : start + AT_ONCE]


def _one(project_id: str, completion_id: str) -> ColumnElement[bool]:
    return (chats.c.id == completion_id) & (chats.c.project_id == project_id)


def _matching(filter: ChatFilter) -> Iterator[ColumnElement[bool]]:
    if filter.model is not None:
        alias, at, version = filter.model.partition("@")
        yield chats.c.alias == alias
        if at:
            yield chats.c.version == (int(version) if version.isdecimal() and len(version) < 10 else -1)
    if filter.metadata is not None and not filter.metadata:
        yield cast(chats.c.metadata, Text) == "{}"
    for name, value in (filter.metadata or {}).items():
        yield chats.c.metadata[name].as_string() == value
    if filter.since is not None:
        yield chats.c.created_at >= filter.since
    if filter.until is not None:
        yield chats.c.created_at < filter.until
    if filter.agreement_below is not None:
        yield chats.c.agreement < filter.agreement_below
    if filter.feedback:
        yield or_(*map(_judged_as, filter.feedback))


def _judged_as(kind: str) -> ColumnElement[bool]:
    """up, down: what the newest rating says."""
    of_chat = feedback.c.completion_id == chats.c.id
    if kind == "none":
        return ~select(feedback.c.id).where(of_chat).exists()
    if kind == "corrected":
        return select(feedback.c.id).where(of_chat, feedback.c.correction != "").exists()
    newer = feedback.alias()
    later = (newer.c.completion_id == feedback.c.completion_id) & (newer.c.updated_at > feedback.c.updated_at)
    overruled = select(newer.c.id).where(later, newer.c.rating.is_not(None)).exists()
    return select(feedback.c.id).where(of_chat, feedback.c.rating == kind, ~overruled).exists()


def _remove(connection: Connection, condition: ColumnElement[bool]) -> _Removed:
    """The chats of a condition with their feedback. They are locked first, so that no further feedback comes in between, and by id, so that
    two transactions that lock several never wait for each other."""
    locked = select(chats.c.id).where(condition).order_by(chats.c.id).with_for_update()
    ids = connection.execute(locked).scalars().all()
    said = 0
    for part in _parts(ids):
        said += connection.execute(delete(feedback).where(feedback.c.completion_id.in_(part))).rowcount
        connection.execute(delete(recipe_chats).where(recipe_chats.c.completion_id.in_(part)))
        connection.execute(delete(chats).where(chats.c.id.in_(part)))
    return _Removed(len(ids), said)


def _of_people(table: Table, project_id: str, people: Sequence[str]) -> ColumnElement[bool]:
    named = or_(table.c.user.in_(people), table.c.safety_identifier.in_(people))
    return (table.c.project_id == project_id) & named


def _ids_of(connection: Connection, table: Table, project_id: str, people: Sequence[str]) -> list[str]:
    if not people:
        return []
    column = table.c.id if table is chats else table.c.completion_id
    return list(connection.execute(select(column).where(_of_people(table, project_id, people))).scalars())


def _present(
    connection: Connection, project_id: str, ids: Sequence[str], people: Sequence[str]
) -> tuple[list[str], int]:
    """The chats of these ids that are there, and how much feedback is theirs or these people's."""
    there: list[str] = []
    said: set[str] = set(connection.execute(_said_by(project_id, people)).scalars()) if people else set()
    for part in _parts(ids):
        mine = select(chats.c.id).where(chats.c.project_id == project_id, chats.c.id.in_(part))
        known = list(connection.execute(mine).scalars())
        there += known
        said.update(connection.execute(select(feedback.c.id).where(feedback.c.completion_id.in_(known))).scalars())
    return there, len(said)


def _said_by(project_id: str, people: Sequence[str]) -> Select:
    return select(feedback.c.id).where(feedback.c.project_id == project_id, feedback.c.author.in_(people))


def _erase(
    connection: Connection, project_id: str, ids: Sequence[str], people: Sequence[str], rows: Sequence[str]
) -> None:
    if people:
        mine = (feedback.c.project_id == project_id) & feedback.c.author.in_(people)
        connection.execute(delete(feedback).where(mine))
    for part in _parts(sorted(ids)):
        _remove(connection, chats.c.id.in_(part))
    for part in _parts(rows):
        mine = (chat_origins.c.project_id == project_id) & chat_origins.c.completion_id.in_(part)
        connection.execute(delete(chat_origins).where(mine))
