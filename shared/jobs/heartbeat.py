"""The row of a process in `workers`: its age shows whether the process is alive."""

from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from shared.contracts.steps import Queue
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.log import get_logger

log = get_logger(__name__)


class Heartbeat:
    """Each process calls beat() from its own loop or timer, every `METEOR_RENEW`."""

    def __init__(self, stores: Callable[[], Stores], worker: str, service: str, queue: Queue | None, slots: int):
        self._stores = stores
        self._row = (worker, DEFAULT_PROJECT, service, queue, slots)
        self._failing = False

    def beat(self, stopping: bool = False) -> bool:
        """Write the row, or remove it with stopping. False when the database is unavailable, which is logged once."""
        try:
            self._stores().jobs.heartbeat(*self._row, stopping)
        except (SQLAlchemyError, OSError) as error:
            if not self._failing:
                log.warning("heartbeat not written; the process continues", error=type(error).__name__)
            self._failing = True
            return False
        self._failing = False
        return True
