"""No stage is silent for more than five seconds: one live line on a terminal, a plain line now and then in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

QUIET_S = 4.0


class Report(Protocol):
    """say: a line that stays. note: where a stage stands, shown now and then."""

    def say(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


class ConsoleReport:
    """Writes to a rich console. Inside `stage`, notes replace each other on a terminal."""

    def __init__(self, console: Console):
        self.console = console
        self._status = None
        self._last = 0.0

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._last >= QUIET_S:
            self.say(f"  {text}")

    @contextmanager
    def live(self) -> Iterator["ConsoleReport"]:
        """Show notes on one changing line while the block runs (on a terminal only)."""
        if not self.console.is_terminal:
            yield self
            return
        with self.console.status("starting") as self._status:
            try:
                yield self
            finally:
                self._status = None


class SilentReport:
    """Keeps what was said, for callers that show nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def note(self, text: str) -> None:
        self.lines.append(text)


def megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
