"""The engine's heartbeat while it answers, from a thread: a slow database must not delay the supervisor."""

import os
import socket
import threading
from collections.abc import Callable
from functools import cache

from shared.jobs.heartbeat import Heartbeat
from shared.jobs.schema import open_stores
from shared.platform.settings import PlatformSettings

STOP_S = 2.0


class EngineHeartbeat:
    """The database may be unreachable from the engine's machine; /health still shows the engine's state then."""

    def __init__(self, settings: PlatformSettings, name: str, slots: int, is_ready: Callable[[], bool]):
        worker = f"engine:{name[:48]}@{socket.gethostname()[:48]}:{os.getpid()}"
        stores = cache(lambda: open_stores(settings.database))
        self._heartbeat = Heartbeat(stores, worker, "engine", None, slots)
        self._interval_s = settings.renew.total_seconds()
        self._is_ready = is_ready
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def begin_stop(self) -> None:
        """Start to remove the row while the engine still ends."""
        self._stopping.set()

    def stop(self) -> None:
        """Remove the row; waits for the database at most STOP_S."""
        self.begin_stop()
        self.thread.join(STOP_S)

    def _run(self) -> None:
        has_row = stopping = False
        while not stopping:
            stopping = self._stopping.wait(self._interval_s)
            ready = self._is_ready() and not stopping
            if (ready or has_row) and self._heartbeat.beat(stopping=not ready):
                has_row = ready
