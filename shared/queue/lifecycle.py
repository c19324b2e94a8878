"""The life of a worker: its row in `workers`, and how its pool processes learn that it ends."""

import asyncio
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from celery import signals

from shared.contracts.steps import Queue
from shared.db.engine import engine_for
from shared.jobs.schema import stores_on
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)


class ShutdownPipe:
    """End of file on a pipe tells every pool process that its worker shuts down.

    Celery's warm shutdown waits until running tasks end by themselves, which training does not do for hours. Only the
    main process holds the writing end; a pool process drops its copy first of all.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        signals.worker_process_init.connect(self._drop_writer, weak=False)
        signals.worker_shutting_down.connect(self._drop_writer, weak=False)

    def _drop_writer(self, **_) -> None:
        if self._writer >= 0:  # a second SIGTERM comes here again
            os.close(self._writer)
            self._writer = -1

    @contextmanager
    def noticed(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the shutdown has begun."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[None] = loop.create_future()

        def end_of_file() -> None:
            loop.remove_reader(self._reader)
            begun.set_result(None)

        loop.add_reader(self._reader, end_of_file)
        try:
            yield begun
        finally:
            loop.remove_reader(self._reader)
            begun.cancel()


def share_memory() -> None:
    """Keep the garbage collector off what main and pool processes share: its marks would give each a copy of its own.

    Measured with four pool processes: 184 MB altogether instead of 265 MB.
    """

    @signals.celeryd_after_setup.connect(weak=False)
    def _before_the_forks(**_):
        gc.collect()
        gc.freeze()
        gc.disable()

    def after_the_fork(**_) -> None:
        gc.freeze()
        gc.enable()

    signals.worker_process_init.connect(after_the_fork, weak=False)
    signals.worker_ready.connect(after_the_fork, weak=False)


def beat_while_alive(settings: PlatformSettings, worker: str, service: str, queue: Queue, slots: int) -> None:
    """A row in `workers` each few seconds tells who consumes the queue; its age tells a lost worker.

    The beats come from the worker's own event loop. A thread would hold locks while the loop forks a new pool process,
    and a connection kept open would be inherited by it; so there is no thread, and each beat closes what it opened.
    A worker that waits for the broker does not beat: it could not take a step either.
    """

    def beat(stopping: bool = False) -> None:
        try:
            stores_on(settings.database).jobs.heartbeat(worker, DEFAULT_PROJECT, service, queue, slots, stopping)
        except Exception as error:  # the database may come back; the worker itself goes on
            log.warning("heartbeat not written", error=str(error))
        finally:
            engine_for(settings.database).dispose()

    @signals.worker_ready.connect(weak=False)
    def _begin(sender, **_):
        beat()
        sender.timer.call_repeatedly(settings.renew.total_seconds(), beat)

    @signals.worker_shutdown.connect(weak=False)
    def _end(**_):
        beat(stopping=True)
