"""Stores answered chats without keeping their callers waiting: a bounded queue, written in the background, in parts.

What cannot be stored is counted by its reason and never fails an answer. Chats that wait are lost if the process is killed.
"""

import asyncio
import json
import time
from collections import Counter as Counts
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import uuid_utils
from fastapi import Request
from prometheus_client import Counter
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from services.api.model_router import Target
from services.api.settings import ApiSettings
from shared.contracts.chat import ChatRequest
from shared.contracts.errors import TransientError
from shared.contracts.json_types import Json
from shared.contracts.openai_rows import agreement_of
from shared.db.engine import UNAVAILABLE, Values
from shared.importing.personal_data import masked_name, masked_value
from shared.jobs.chat_store import ChatStore
from shared.platform.log import get_logger
from shared.platform.metrics import LabelSets

log = get_logger(__name__)
STORED = Counter("meteor_chats_stored_total", "Chats that were stored", ["project"])
NOT_STORED = Counter(
    "meteor_chats_not_stored_total", "Chats that were to be stored and were not, by reason", ["project", "reason"]
)
PROJECTS = LabelSets()
NOT_KEPT = {"model", "user", "safety_identifier", "store", "metadata", "stream", "stream_options"}
AT_ONCE = 100  # chats of one transaction
WAITING_BYTES = 64 * 2**20  # of all chats that wait
SETTLE_S = 10.0  # how long a reader waits for chats that were answered before it came
LAST_S = 3.0  # how long the process waits for them when it ends
TRIM_AFTER = 0.01  # share of a project's room that is written before its room is looked at again


@dataclass
class Draft:
    """A chat that is to be stored once it is answered. size: bytes of its request, as far as they are known."""

    project: str
    target: Target
    request: ChatRequest
    request_id: str
    mask: bool
    size: int = 0
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid_utils.uuid7().hex}")
    answer: Json = field(default_factory=dict)
    answered_at: float = 0.0


class Recorder:
    """`run` is the background task. All other methods return at once, but for `settled`."""

    def __init__(self, chats: ChatStore, settings: ApiSettings):
        self._chats = chats
        self._longest, self._room = settings.store_chat_bytes, settings.store_project_bytes
        self._waiting: asyncio.Queue[Draft] = asyncio.Queue(settings.store_waiting)
        self._bytes = 0
        self._given = self._done = 0  # chats so far, in their order
        self._moved = asyncio.Event()
        self._written: defaultdict[str, float] = defaultdict(lambda: float("inf"))  # bytes since the room was looked at

    def keep(self, draft: Draft, answer: Json, size: int) -> None:
        """size: bytes of the answer."""
        draft.answer, draft.size, draft.answered_at = answer, draft.size + size, time.time()
        if draft.size > 2 * self._longest:  # escapes and spaces are no more than half of it; the writer looks closely
            self._lost(draft.project, "too_long")
        elif self._bytes + draft.size > WAITING_BYTES or self._waiting.full():
            self._lost(draft.project, "queue_full")
        else:
            self._bytes += draft.size
            self._given += 1
            self._waiting.put_nowait(draft)

    def broken(self, draft: Draft) -> None:
        """The answer failed or was broken off, so there is none to store."""
        self._lost(draft.project, "not_answered")

    async def run(self) -> None:
        while True:
            drafts = [await self._waiting.get()]
            while len(drafts) < AT_ONCE and not self._waiting.empty():
                drafts.append(self._waiting.get_nowait())
            try:
                await run_in_threadpool(self._write, drafts)
            except Exception as error:  # whatever is wrong with these chats, the next ones are stored
                log.error("chats are not stored", chats=len(drafts), error=repr(error))
                for draft in drafts:
                    self._lost(draft.project, "error")
            finally:
                self._bytes -= sum(draft.size for draft in drafts)
                self._done += len(drafts)
                moved, self._moved = self._moved, asyncio.Event()
                moved.set()

    async def settled(self, seconds: float = SETTLE_S) -> bool:
        """Wait until what was answered before is written, so that a caller finds its chat; what comes meanwhile is not waited for.
        Returns whether it is."""
        answered = self._given
        try:
            async with asyncio.timeout(seconds):
                while self._done < answered:
                    await self._moved.wait()
        except TimeoutError:
            log.warning("chats still wait to be stored", chats=answered - self._done)
        return self._done >= answered

    def _write(self, drafts: list[Draft]) -> None:
        rows: list[Values] = []
        for draft in drafts:
            row = row_of(draft)
            if row["bytes"] > self._longest:
                self._lost(draft.project, "too_long")
            else:
                rows.append(row)
        for row in self._added(rows):
            STORED.labels(*PROJECTS.admit(row["project_id"])).inc()
            self._written[row["project_id"]] += row["bytes"]
        for project in {row["project_id"] for row in rows}:
            if self._written[project] > TRIM_AFTER * self._room:
                self._chats.trim(project, self._room)
                self._written[project] = 0.0

    def _added(self, rows: list[Values]) -> list[Values]:
        """Those that could be written: all at once, or each alone if one of them cannot be. Raises if the database is unavailable."""
        try:
            self._chats.add(rows)
        except UNAVAILABLE:
            raise
        except SQLAlchemyError as error:
            if len(rows) > 1:
                return [row for one in rows for row in self._added([one])]
            log.error("a chat is not stored", project=rows[0]["project_id"], error=repr(error))
            self._lost(rows[0]["project_id"], "error")
            return []
        return rows

    def _lost(self, project: str, reason: str) -> None:
        NOT_STORED.labels(*PROJECTS.admit(project), reason).inc()


def row_of(draft: Draft) -> Values:
    """The row of a chat, masked where that is asked for. A user whose name is masked keeps one name of its own."""
    asked: Any = {name: value for name, value in draft.request.sent.items() if name not in NOT_KEPT}
    answer: Any = draft.answer
    metadata: Any = draft.request.metadata or {}
    people = {name: _plain(getattr(draft.request, name)) for name in ("user", "safety_identifier")}
    hidden = Counts[str]() if draft.mask else None
    if hidden is not None:
        asked, answer, metadata = (masked_value(value, hidden) for value in (asked, answer, metadata))
        people = {name: person and masked_name(person, hidden) for name, person in people.items()}
    target = draft.target
    return people | {
        "id": draft.id,
        "project_id": draft.project,
        "alias": target.alias,
        "version": int(target.version) if target.version else None,
        "model": target.shown,
        "request": asked,
        "answer": answer,
        "metadata": metadata,
        "bytes": len(json.dumps(asked)) + len(json.dumps(answer)),
        "masked": None if hidden is None else dict(hidden),
        "request_id": draft.request_id[:128],
        "created_at": draft.answered_at,
        "agreement": agreement_of(draft.answer.get("choices") or []),
    }


def _plain(name: str | None) -> str | None:
    """Without NUL, which PostgreSQL cannot store; empty is nobody."""
    return (name or "").replace("\x00", "") or None


class StillStoring(TransientError):
    code = "still_storing"
    retry_after_s = 1


async def settled(request: Request) -> None:
    """Dependency of routes that read stored chats. Raises StillStoring."""
    if not await request.app.state.chat_recorder.settled():
        raise StillStoring("chats that were answered before are still being stored; ask again")
