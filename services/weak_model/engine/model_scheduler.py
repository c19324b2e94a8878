"""Which of several models the one server of a device serves. Told by callers, followed by the engine; knows neither.

- A model that is served stays while it is in use, and `linger` seconds longer: the steps of one job follow each other.
- When another one waits, the present one ends after its `turn` at the latest: nobody is admitted to it any more, what
  runs may finish within `drain` seconds. Then whoever has waited longest is next.
- A server that died makes room at once when another model waits.
- A model that cannot be started is refused for a while, and the first one is served again.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from services.weak_model.settings import EngineSettings
from shared.contracts.engine import EngineStatus, ModelState

SETTLE_S = 2.0  # the requests of a caller who was just admitted may not have reached the server yet
FORGIVEN_S = 600.0  # a model that could not be started is tried again after this, if it is asked for


class Rules(NamedTuple):
    """All in seconds."""

    linger: float
    turn: float
    drain: float

    @classmethod
    def of(cls, settings: EngineSettings) -> "Rules":
        return cls(settings.linger.total_seconds(), settings.turn.total_seconds(), settings.drain.total_seconds())


class ModelScheduler:
    """Safe to use from several threads. first: the model that is served at the start."""

    def __init__(self, first: str, rules: Rules, clock: Callable[[], float] = time.monotonic):
        self.first = self.serving = first
        self.rules = rules
        self.clock = clock
        self.ready = False
        self._lock = threading.Lock()
        self._closing_since: float | None = None  # nobody is admitted any more
        self._began = self._since = self._used = clock()
        self._wishes: dict[
            str, tuple[float, float]
        ] = {}  # model -> (asked first, forgotten at), in the order of asking
        self._took: dict[str, float] = {}  # seconds that a start took
        self._failed: dict[str, tuple[str, float]] = {}  # model -> (why, forgiven at)

    # for callers

    def ask(self, model: str, seconds: float) -> EngineStatus:
        """Whether the model can be asked now; if not, it is wanted for so many seconds from now on."""
        with self._lock:
            now = self.clock()
            why, forgiven = self._failed.get(model, ("", now))
            if forgiven > now:
                return EngineStatus(state=ModelState.FAILED, serving=self.serving, reason=why)
            if model == self.serving and self._closing_since is None:
                self._used = now
                return self._status(ModelState.READY if self.ready else ModelState.STARTING)
            first_asked = self._wishes.get(model, (now, now))[0]
            self._wishes[model] = (first_asked, now + seconds)
            return self._status(ModelState.WAITING)

    def status(self) -> EngineStatus:
        with self._lock:
            return self._status(ModelState.READY if self.ready else ModelState.STARTING)

    def _status(self, state: ModelState) -> EngineStatus:
        left = None
        expected = self._took.get(self.serving, next(reversed(self._took.values()), None))
        if state is ModelState.STARTING and expected is not None:
            left = round(max(0.0, self._began + expected - self.clock()), 1)
        return EngineStatus(state=state, serving=self.serving, eta_seconds=left, waiting=self._waiting())

    def _waiting(self) -> list[str]:
        """Who waits, longest first."""
        now = self.clock()
        self._wishes = {model: times for model, times in self._wishes.items() if times[1] > now}
        return sorted((m for m in self._wishes if m != self.serving), key=lambda model: self._wishes[model][0])

    # for the engine

    def begins(self) -> str:
        """A start of the chosen model begins; returns its name."""
        with self._lock:
            self.ready, self._closing_since, self._began = False, None, self.clock()
            return self.serving

    def is_ready(self) -> None:
        """The start has ended well; the model's turn begins."""
        with self._lock:
            now = self.clock()
            self._took.pop(self.serving, None)  # so that the newest figure stands last
            self._took[self.serving] = now - self._began
            self._wishes.pop(self.serving, None)
            self.ready, self._since, self._used = True, now, now

    def should_swap(self, busy: Callable[[], bool]) -> bool:
        """Whether the server is to be ended now for another model. busy: whether it computes anything; may block."""
        with self._lock:
            now = self.clock()
            if not self._waiting():
                self._closing_since = None
                return False
            turn_over = now - self._since >= self.rules.turn
            if not turn_over and now - self._used < self.rules.linger:
                return False
            self._closing_since = now if self._closing_since is None else self._closing_since
            closing_for, settled = now - self._closing_since, now - self._used >= SETTLE_S
        works = busy()  # not under the lock: callers go on
        with self._lock:
            if works and not turn_over:  # in use after all, by callers who do not ask first
                self._closing_since, self._used = None, self.clock()
                return False
            if (works and closing_for < self.rules.drain) or not settled:
                return False
            waiting = self._waiting()
            if waiting:
                self._take(waiting[0])
            return bool(waiting)

    def lost(self) -> None:
        """The server died. Its model is loaded again, or, as that takes a start anyway, the one that waits longest."""
        with self._lock:
            waiting = self._waiting()
            self._take(waiting[0] if waiting else self.serving)

    def could_not_start(self, why: str) -> bool:
        """Go back to the first model; False when it is the first one that cannot be started."""
        with self._lock:
            if self.serving == self.first:
                return False
            self._failed[self.serving] = (why, self.clock() + FORGIVEN_S)
            self._wishes.pop(self.serving, None)
            self._take(self.first)
            return True

    def _take(self, model: str) -> None:
        self.serving, self.ready, self._began = model, False, self.clock()
        self._closing_since = None
