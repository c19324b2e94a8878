"""Metrics of chats: requests, failures and seconds, by alias, version and the role of the version; and who else is told of an end."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from services.api.model_router import Target
from shared.contracts.errors import MeteorError
from shared.platform.metrics import LabelSets

LABELS = ["project", "alias", "version", "role"]
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
REQUESTS = Counter("meteor_chat_requests_total", "Chats by model, its role and how they ended", [*LABELS, "outcome"])
SECONDS = Histogram("meteor_chat_seconds", "From question to the end of the answer", LABELS, buckets=BUCKETS)
FIRST = Histogram(
    "meteor_chat_first_seconds", "From question to the first part of a streamed answer", LABELS, buckets=BUCKETS
)

MODELS = LabelSets()

Observer = Callable[[str, float], None]  # is told the outcome and the seconds since the question


class ChatMetrics:
    """One request to one model. The first call of `end` counts, later ones have no effect."""

    def __init__(self, project: str, target: Target, observe: Observer | None = None):
        self.labels = (*MODELS.admit(project, target.alias, target.version), target.role)
        self.observe = observe
        self.started_at = time.monotonic()
        self.ended = False

    def first(self) -> None:
        """The first chunk of a stream has arrived."""
        FIRST.labels(*self.labels).observe(time.monotonic() - self.started_at)

    def end(self, outcome: str) -> None:
        """ok, refused (the request was at fault), error, or left (the client disconnected)."""
        if self.ended:
            return
        self.ended = True
        seconds = time.monotonic() - self.started_at
        REQUESTS.labels(*self.labels, outcome).inc()
        if outcome == "ok":
            SECONDS.labels(*self.labels).observe(seconds)
        if self.observe is not None:
            self.observe(outcome, seconds)

    def failed(self, error: BaseException) -> None:
        status = error.status if isinstance(error, MeteorError) else 500
        self.end("refused" if status < 500 else "error")

    @contextmanager
    def until_answered(self) -> Generator[None]:
        """Counts what is raised inside: an exception as a failure, a cancellation as a client that disconnected."""
        try:
            yield
        except Exception as error:
            self.failed(error)
            raise
        except BaseException:
            self.end("left")
            raise
