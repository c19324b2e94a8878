"""Which model answers: the name that was asked for, and for an alias with a canary the share of conversations that go there."""

import asyncio
import hashlib
import json
import time
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool

from services.api.context import ApiContext
from services.api.features.chat.service import Route
from shared.jobs.catalog import ref_of
from shared.jobs.records import ModelRecord

KEPT_S = 1.0  # what another process changes (a job promotes its version) is seen this much later
MOST_KEPT = 1000


class Target(NamedTuple):
    """shown: what `model` of the answer says. engine_name: what vLLM knows it by, a base or a content hash. served_by: what
    the engine must have been started with for that. alias, version, role (base, served, canary, shadow, version): for metrics.
    """

    shown: str
    engine_name: str
    served_by: str
    alias: str
    version: str = ""
    role: str = "base"

    @property
    def header(self) -> str:
        """The version that answers, as a header can hold it."""
        return quote(f"{self.alias}@{self.version}" if self.version else self.alias, safe="/@:+,")


class Ways(NamedTuple):
    """Where a name leads. tried: with a canary the other version; it answers `percent` of conversations, or gets copies."""

    main: Target
    tried: Target | None = None
    percent: float = 0.0
    shadow: bool = False
    model_id: str = ""

    def chosen(self, conversation: str) -> tuple[Target, Target | None]:
        """(who answers, who gets a copy). The same conversation always goes the same way, and a larger share takes in more
        conversations without moving those that it had."""
        if self.tried is None or share(conversation, self.model_id) >= self.percent:
            return self.main, None
        return (self.main, self.tried) if self.shadow else (self.tried, None)


def share(conversation: str, model_id: str) -> float:
    """A conversation's place in [0, 100). It differs between canaries, so that not the same people try each of them."""
    digest = hashlib.sha256(f"{model_id}\0{conversation}".encode(errors="replace")).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


def conversation(route: Route, body: dict[str, Any], session: str) -> str:
    """What keeps a conversation with one version: its user, the header x-session-id, `safety_identifier`, or how it began."""
    known = body.get("user") or session or body.get("safety_identifier")
    return known or json.dumps(route.opening(body), sort_keys=True)


def ways(context: ApiContext, project: str, name: str) -> Ways:
    """Only the bases' names and hashes read from the database ever reach the engine. Raises NotFound."""
    if any(name == base.name for base in context.students):
        return Ways(Target(name, name, name, name))
    alias, at, _ = name.partition("@")
    canary = None if at else context.stores.canaries.get(project, alias)
    if canary is None:
        row = context.stores.catalog.resolve(project, name)
        return Ways(_tuned(row, "version" if at else "served", name))
    tried = _tuned(canary.tried, "shadow" if canary.shadow else "canary")
    return Ways(_tuned(canary.served, "served"), tried, canary.percent, canary.shadow, canary.tried.id)


def _tuned(row: ModelRecord, role: str, shown: str = "") -> Target:
    ref = ref_of(row)
    version = str(row.version)
    return Target(shown or f"{row.alias}@{version}", ref.engine_name, ref.served_by, row.alias, version, role)


class Signpost:
    """Where names lead, looked up in the database once a second at most, by one request for all that ask at once."""

    def __init__(self, context: ApiContext):
        self.context = context
        self._kept: dict[tuple[str, str], tuple[float, asyncio.Future[Ways]]] = {}

    async def ways(self, project: str, name: str) -> Ways:
        """Raises NotFound."""
        key, now = (project, name), time.monotonic()
        until, found = self._kept.get(key, (0.0, None))
        if found is None or until < now:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = asyncio.ensure_future(run_in_threadpool(ways, self.context, project, name))
            self._kept[key] = (now + KEPT_S, found)
        try:
            return await asyncio.shield(found)  # others wait for it too, when this caller goes away
        except Exception:
            self._kept.pop(key, None)
            raise

    def forget(self) -> None:
        """An alias was moved or a canary changed by this process."""
        self._kept.clear()
