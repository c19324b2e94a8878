"""A row in `workers` while the engine answers, from a thread of its own: a slow database must not delay the engine."""

import os
import socket
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
FAREWELL_S = 2.0


class Pulse:
    """An engine may run where the database cannot be reached (a GPU machine of its own): then this is said once."""

    def __init__(self, settings: PlatformSettings, name: str, slots: int, ready: Callable[[], bool]):
        self.settings = settings
        self.worker = f"engine:{name[:48]}@{socket.gethostname()[:48]}:{os.getpid()}"
        self.slots = slots
        self.ready = ready
        self._stores: Stores | None = None
        self._known = False  # a row of ours says that we are there
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Begin to take the row back, while the engine still ends."""
        self._stop.set()

    def stop(self) -> None:
        """Take the row back; waits for the database a moment only."""
        self.leave()
        self._thread.join(FAREWELL_S)

    def _run(self) -> None:
        while True:
            last = self._stop.wait(self.settings.renew.total_seconds())
            ready = self.ready() and not last
            if ready or self._known:
                self._beat(ready)
            if last:
                return

    def _beat(self, ready: bool) -> None:
        try:
            if self._stores is None:
                self._stores = open_stores(self.settings.database)
            self._stores.jobs.heartbeat(self.worker, DEFAULT_PROJECT, "engine", None, self.slots, stopping=not ready)
        except (SQLAlchemyError, OSError) as error:
            if not self._failing:
                log.warning("no heartbeat written; /health still tells of the engine", error=type(error).__name__)
            self._failing = True
            return
        self._known, self._failing = ready, False
