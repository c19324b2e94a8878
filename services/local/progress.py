"""Progress of a long stage: one live line on a terminal; elsewhere a line at most every QUIET_S seconds."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.status import Status

from shared.platform.terminal import QUIET_S


class ProgressReport(Protocol):
    """say: a line that stays. note: where a stage is, shown now and then."""

    def say(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


class ConsoleReport:
    """Writes to a console. Inside `live`, notes replace each other on a terminal."""

    def __init__(self, console: Console):
        self.console = console
        self._status: Status | None = None
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._last >= QUIET_S:
            self.say(f"  {text}")

    @contextmanager
    def live(self) -> Generator[None]:
        """Show notes on one changing line while the block runs (on a terminal only)."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status("starting") as self._status:
            try:
                yield
            finally:
                self._status = None


class SilentReport:
    """Collects the lines, for callers that show nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    note = say

    @contextmanager
    def live(self) -> Generator[None]:
        yield


def megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
