"""Decides which of several models the one server of a device serves. Callers request models; the supervisor follows.

- A served model stays while it is in use, and for `linger` longer: the steps of one job follow each other.
- When another model waits, the served one ends at the latest after its `turn`: new callers are refused, running requests
  may finish within `drain`. The model that has waited longest is next.
- A training that shares the device (METEOR_DEVICE_SHARING=time) waits for it in the same order as models do. Nothing is served until
  it returns the device, or stops repeating its request.
- When the server dies, a waiting model replaces it at once.
- A model that cannot be started is refused for FAILURE_S, and the first model is served again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.weak_model.settings import EngineSettings
from shared.contracts.engine import EngineStatus, ModelState, SleepMode

SETTLE_S = 2.0  # until the requests of a caller who was just admitted have reached the server
FAILURE_S = 600.0  # a model that could not be started is tried again after this, on request
DEVICE = ""  # what waits for the device itself, among the models that wait; no model has this name
TRAINING = "a training"  # its name for people


@dataclass(frozen=True)
class Rules:
    """All in seconds."""

    linger: float
    turn: float
    drain: float

    @classmethod
    def of(cls, settings: EngineSettings) -> "Rules":
        return cls(settings.linger.total_seconds(), settings.turn.total_seconds(), settings.drain.total_seconds())


@dataclass(frozen=True)
class Waiting:
    """A model that callers wait for. since, expires: seconds of the clock."""

    since: float
    expires: float


@dataclass
class Loan:
    """Of the device. borrower: None until one of those who wait has asked again. freed: whether no server holds the device any more."""

    borrower: str | None
    expires: float
    freed: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a model could not be started, and until when it is refused."""

    reason: str
    until: float


class ModelScheduler:
    """Thread-safe. first: the model that is served at the start."""

    def __init__(self, first: str, rules: Rules, clock: Callable[[], float] = time.monotonic):
        self.first = self.serving = first
        self.rules = rules
        self.clock = clock
        self.ready = False
        self.sleep_mode: SleepMode | None = None  # found out by the supervisor
        self._loan: Loan | None = None
        self._lock = threading.Lock()
        self._closing_since: float | None = None  # nobody is admitted any more
        self._start_began = self._ready_since = self._last_used = clock()
        self._requests: dict[str, Waiting] = {}
        self._start_seconds: dict[str, float] = {}  # the newest start last
        self._failures: dict[str, Failure] = {}

    # for callers

    def request(self, model: str, seconds: float) -> EngineStatus:
        """Whether the engine serves the model now; if not, the request stands for so many seconds."""
        with self._lock:
            now = self.clock()
            failure = self._failures.get(model)
            if failure is not None and failure.until > now:
                return EngineStatus(state=ModelState.FAILED, serving=self.serving, reason=failure.reason)
            if model == self.serving and self._closing_since is None and self._loan is None:
                self._last_used = now
                return self._status(ModelState.READY if self.ready else ModelState.STARTING)
            earlier = self._requests.get(model)
            self._requests[model] = Waiting(earlier.since if earlier else now, now + seconds)
            return self._status(ModelState.WAITING if self._loan is None else ModelState.LENT)

    def borrow(self, borrower: str, seconds: float, held: bool = False) -> EngineStatus:
        """A training wants the device: LENT when it has it, for so many seconds; WAITING while its request stands for as long, or while the
        engine still frees the device for it. held: it has the device already, and this process was started meanwhile."""
        with self._lock:
            now = self.clock()
            if held and self._loan is None and not self.ready:
                self._lend(now + seconds)
            if self._loan is not None and self._loan.borrower in (None, borrower):
                self._loan.borrower, self._loan.expires = borrower, now + seconds
                self._requests.pop(DEVICE, None)
                return self._status(ModelState.LENT if self._loan.freed else ModelState.WAITING)
            earlier = self._requests.get(DEVICE)
            self._requests[DEVICE] = Waiting(earlier.since if earlier else now, now + seconds)
            return self._status(ModelState.WAITING)

    def give_back(self, borrower: str) -> EngineStatus:
        """The training has ended, or does not want the device any more."""
        with self._lock:
            if self._loan is not None and self._loan.borrower == borrower:
                self._loan.expires = self.clock()
            elif self._loan is None:
                self._requests.pop(DEVICE, None)
            return self._status(self._state())

    def status(self) -> EngineStatus:
        with self._lock:
            return self._status(self._state())

    def _state(self) -> ModelState:
        if self._loan is not None:
            return ModelState.LENT
        return ModelState.READY if self.ready else ModelState.STARTING

    def _status(self, state: ModelState) -> EngineStatus:
        eta = None
        expected = self._start_seconds.get(self.serving, next(reversed(self._start_seconds.values()), None))
        if state is ModelState.STARTING and expected is not None:
            eta = round(max(0.0, self._start_began + expected - self.clock()), 1)
        waiting = [model or TRAINING for model in self._waiting()]
        return EngineStatus(
            state=state, serving=self.serving, eta_seconds=eta, waiting=waiting, sleep_mode=self.sleep_mode
        )

    def _waiting(self) -> list[str]:
        """The longest waiting first. Expired requests are dropped."""
        now = self.clock()
        self._requests = {model: waiting for model, waiting in self._requests.items() if waiting.expires > now}
        others = (model for model in self._requests if model != self.serving)
        return sorted(others, key=lambda model: self._requests[model].since)

    # for the supervisor

    @property
    def lent(self) -> bool:
        return self._loan is not None

    def freed(self) -> None:
        """No server holds the device: the borrower may use it."""
        with self._lock:
            if self._loan is not None:
                self._loan.freed = True

    def loan_is_over(self) -> bool:
        """Whether the device is the engine's again. The model that has waited longest is then to be served, or the same one."""
        with self._lock:
            if self._loan is not None and self._loan.expires > self.clock():
                return False
            waiting = self._waiting()
            if waiting[:1] == [DEVICE]:  # another trainer
                self._lend(self._requests[DEVICE].expires, freed=self._loan is not None and self._loan.freed)
                return False
            self._loan = None
            self._serve(waiting[0] if waiting else self.serving)
            return True

    def woke(self) -> bool:
        """The model is served again without a start; False where the device was lent meanwhile."""
        with self._lock:
            return self._admit()

    def start_begins(self) -> str:
        """Returns the model to start."""
        with self._lock:
            self.ready, self._closing_since, self._start_began = False, None, self.clock()
            return self.serving

    def start_succeeded(self) -> bool:
        """The model's turn begins; False where the device was lent meanwhile."""
        with self._lock:
            self._start_seconds.pop(self.serving, None)
            self._start_seconds[self.serving] = self.clock() - self._start_began
            return self._admit()

    def _admit(self) -> bool:
        if self._loan is not None:
            return False
        now = self.clock()
        self._requests.pop(self.serving, None)
        self.ready, self._ready_since, self._last_used = True, now, now
        return True

    def start_failed(self, reason: str) -> bool:
        """Return to the first model; False when it is the first one that cannot be started."""
        with self._lock:
            if self.serving == self.first:
                return False
            self._failures[self.serving] = Failure(reason, self.clock() + FAILURE_S)
            self._requests.pop(self.serving, None)
            self._serve(self.first)
            return True

    def should_swap(self, is_busy: Callable[[], bool]) -> bool:
        """Whether the server is to end now for another model, or to lend its device. is_busy: whether it computes anything; may block."""
        with self._lock:
            now = self.clock()
            if not self._waiting():
                self._closing_since = None
                return False
            turn_over = now - self._ready_since >= self.rules.turn
            if not turn_over and now - self._last_used < self.rules.linger:
                return False
            self._closing_since = now if self._closing_since is None else self._closing_since
            closing_for, settled = now - self._closing_since, now - self._last_used >= SETTLE_S
        busy = is_busy()  # outside the lock: callers continue
        with self._lock:
            if busy and not turn_over:  # in use by callers who do not request the model first
                self._closing_since, self._last_used = None, self.clock()
                return False
            if (busy and closing_for < self.rules.drain) or not settled:
                return False
            return self._next()

    def server_died(self) -> None:
        """Load the longest waiting model, which costs no more than loading the same one again; else the same one. A loan stays."""
        with self._lock:
            if self._loan is not None or not self._next():
                self._serve(self.serving)

    def _next(self) -> bool:
        """Turn to what has waited longest; False where nothing waits."""
        waiting = self._waiting()
        if waiting[:1] == [DEVICE]:
            self._lend(self._requests[DEVICE].expires)
        elif waiting:
            self._serve(waiting[0])
        return bool(waiting)

    def _serve(self, model: str) -> None:
        self.serving, self.ready, self._start_began = model, False, self.clock()
        self._closing_since = None

    def _lend(self, expires: float, freed: bool = False) -> None:
        self._requests.pop(DEVICE, None)
        self._loan, self.ready, self._closing_since = Loan(None, expires, freed), False, None
