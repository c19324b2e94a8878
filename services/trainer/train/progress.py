"""Messages of the training process to its supervisor: JSON lines on a stream that no library can write to.

Imports no model library: it must report the failure to load one.
"""

import os
import sys
import time
from typing import TextIO

from services.trainer.spec import Done, Failed, Message, Metrics, Tick
from shared.contracts.errors import MeteorError

TICK_S = 0.5  # between two lines of progress


class Reporter:
    """Writes one JSON line per message; ticks at most every TICK_S. only_failures: another process reports the rest."""

    def __init__(self, stream: TextIO, only_failures: bool = False):
        self._stream = stream
        self._only_failures = only_failures
        self._last_tick = 0.0

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_tick >= TICK_S:
            self._last_tick = now
            self._write(Tick(done=done, total=total, eta_s=eta_s, metrics=metrics))

    def done(self, metrics: Metrics) -> None:
        self._write(Done(metrics=metrics))

    def failed(self, error: MeteorError) -> None:
        self._write(Failed.of(error))

    def _write(self, message: Message) -> None:
        if self._only_failures and not isinstance(message, Failed):
            return
        self._stream.write(message.model_dump_json() + "\n")
        self._stream.flush()


def take_stdout() -> TextIO:
    """The process's standard output as a private stream; other prints go to standard error from now on."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "w", encoding="utf-8")
