"""What the training process tells its supervisor: JSON lines on a stream that no library can write to.

Imports no model library: it has to be there when loading one fails.
"""

import os
import sys
import time
from typing import TextIO

from services.trainer.spec import Done, Failed, Line, Tick
from shared.contracts.errors import MeteorError, TransientError, UserError

TICK_S = 0.5  # between two lines of progress


class Reporter:
    """Writes one JSON line per word; ticks at most every TICK_S."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._last_tick = 0.0

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_tick >= TICK_S:
            self._last_tick = now
            self._write(Tick(done=done, total=total, eta_s=eta_s, metrics=metrics))

    def done(self, metrics: dict) -> None:
        self._write(Done(metrics=metrics))

    def failed(self, error: MeteorError) -> None:
        family = (
            "user" if isinstance(error, UserError) else "transient" if isinstance(error, TransientError) else "fatal"
        )
        self._write(Failed(family=family, code=error.code, message=error.message, param=error.param))

    def _write(self, word: Line) -> None:
        self._stream.write(word.model_dump_json() + "\n")
        self._stream.flush()


def take_stdout() -> TextIO:
    """The process's standard output as a private stream; whatever else prints goes to standard error from now on."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "w", encoding="utf-8")
