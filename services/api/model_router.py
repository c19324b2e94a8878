"""Which model answers a request: the name in the request, and for an alias with a canary a share of the conversations."""

import asyncio
import hashlib
import time
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool

from shared.contracts.generation import GREEDY, Generation
from shared.jobs.canary_store import Trial
from shared.jobs.catalog import ref_of
from shared.jobs.records import CaptureRecord, ModelRecord
from shared.jobs.schema import Stores

CACHED_S = 1.0  # a change by another process (a job promotes its version) takes effect this much later
MOST_CACHED = 1000


class Target(NamedTuple):
    """shown: `model` in the response. engine_name: vLLM's name for the model, a base or a content hash. served_by: what the
    engine must have been started with to serve it. alias, version, role (base, served, canary, shadow, version): for metrics.
    base: the base's name. generation: how it answers where the request does not say.
    """

    shown: str
    engine_name: str
    served_by: str
    alias: str
    version: str = ""
    role: str = "base"
    base: str = ""
    generation: Generation = GREEDY

    @property
    def header(self) -> str:
        """The version that answers, encoded for a header."""
        return quote(f"{self.alias}@{self.version}" if self.version else self.alias, safe="/@:+,")


class ModelRoute(NamedTuple):
    """The targets of a name. canary: the version under test; it answers `percent` of the conversations or gets copies. trial: what is
    observed of it. capture: the share of the alias's chats that is stored."""

    main: Target
    canary: Target | None = None
    percent: float = 0.0
    shadow: bool = False
    model_id: str = ""
    trial: Trial | None = None
    capture: CaptureRecord | None = None

    def choose(self, conversation: str) -> tuple[Target, Target | None]:
        """(target that answers, target that gets a copy). A conversation keeps its target, also when `percent` grows."""
        if self.canary is None or share(conversation, self.model_id) >= self.percent:
            return self.main, None
        return (self.main, self.canary) if self.shadow else (self.canary, None)


def share(conversation: str, model_id: str) -> float:
    """A conversation's place in [0, 100). It depends on the canary too, so each canary is tried by other conversations."""
    digest = hashlib.sha256(f"{model_id}\0{conversation}".encode(errors="replace")).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


class ModelRouter:
    """Resolves names through the database, once a second at most; concurrent requests for a name share one query."""

    def __init__(self, stores: Stores, students: Collection[str]):
        self._stores = stores
        self._students = students
        self._cached: dict[tuple[str, str], tuple[float, asyncio.Future[ModelRoute]]] = {}

    def resolve(self, project: str, name: str) -> ModelRoute:
        """Only names of base models and hashes from the database reach the engine. Raises NotFound."""
        if name in self._students:
            return ModelRoute(Target(name, name, name, name, base=name))
        alias, at, _ = name.partition("@")
        canary = None if at else self._stores.canaries.get(project, alias)
        if canary is None:
            model = self._stores.catalog.resolve(project, name)
            capture = self._stores.captures.get(project, model.alias)
            return ModelRoute(_target(model, "version" if at else "served", name), capture=capture)
        tried = _target(canary.tried, "shadow" if canary.shadow else "canary")
        trial, capture = canary.trial, self._stores.captures.get(project, alias)
        served = _target(canary.served, "served")
        return ModelRoute(served, tried, canary.percent, canary.shadow, canary.tried.id, trial, capture)

    async def cached(self, project: str, name: str) -> ModelRoute:
        """`resolve`, from the cache. Raises NotFound."""
        key, now = (project, name), time.monotonic()
        until, route = self._cached.get(key, (0.0, None))
        if route is None or until < now:
            if len(self._cached) >= MOST_CACHED:
                self._cached.clear()
            route = asyncio.ensure_future(run_in_threadpool(self.resolve, project, name))
            self._cached[key] = (now + CACHED_S, route)
        try:
            return await asyncio.shield(route)  # other requests wait for it too, so it outlives this one
        except Exception:
            self._cached.pop(key, None)
            raise

    def forget(self) -> None:
        """This process moved an alias, or changed a canary or a capture."""
        self._cached.clear()


def _target(model: ModelRecord, role: str, shown: str = "") -> Target:
    ref, version = ref_of(model), str(model.version)
    return Target(
        shown or f"{model.alias}@{version}",
        ref.engine_name,
        ref.served_by,
        model.alias,
        version,
        role,
        model.base,
        model.generation,
    )
