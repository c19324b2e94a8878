"""The life of a worker process: its heartbeat, its shutdown, its memory."""

import asyncio
import gc
import os
from collections.abc import Generator
from contextlib import contextmanager

from celery import signals

from shared.db.engine import UNAVAILABLE, engine_for
from shared.jobs.heartbeat import Heartbeat
from shared.jobs.schema import stores_on
from shared.platform import tracing
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings
from shared.queue.scratch import clear_ended

log = get_logger(__name__)
CLEAR_SCRATCH_S = 60.0


class ShutdownPipe:
    """Signals a worker's shutdown to its pool processes by end of file on a pipe.

    Celery's warm shutdown waits for running tasks, which take hours for a training. Only the main process holds the
    writing end; a pool process closes its copy first.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        signals.worker_process_init.connect(self._close_writer, weak=False)
        signals.worker_shutting_down.connect(self._close_writer, weak=False)

    def _close_writer(self, **_) -> None:
        if self._writer >= 0:  # called again by a second SIGTERM
            os.close(self._writer)
            self._writer = -1

    @contextmanager
    def noticed(self) -> Generator[asyncio.Future[None]]:
        """A future that is done once the shutdown has begun."""
        loop = asyncio.get_running_loop()
        shutdown: asyncio.Future[None] = loop.create_future()

        def end_of_file() -> None:
            loop.remove_reader(self._reader)
            shutdown.set_result(None)

        loop.add_reader(self._reader, end_of_file)
        try:
            yield shutdown
        finally:
            loop.remove_reader(self._reader)
            shutdown.cancel()


def share_memory() -> None:
    """Exclude the memory shared by main and pool processes from garbage collection, whose marks would copy it.

    Four pool processes measured 184 MB in total instead of 265 MB.
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


def flush_traces_at_end() -> None:
    """Of a pool process, which is the one that runs steps."""

    @signals.worker_process_shutdown.connect(weak=False)
    def _flush(**_):
        tracing.flush()


def beat_while_alive(settings: PlatformSettings, heartbeat: Heartbeat) -> None:
    """Write the worker's heartbeat every `renew` from Celery's own timer.

    Not from a thread, which would hold locks while the loop forks a pool process; and each beat closes its connection,
    which the fork would inherit. A worker that waits for the broker writes no heartbeat: it cannot take a step either.
    """

    def beat(stopping: bool = False) -> None:
        heartbeat.beat(stopping)
        engine_for(settings.database).dispose()

    @signals.worker_ready.connect(weak=False)
    def _begin(sender, **_):
        beat()
        sender.timer.call_repeatedly(settings.renew.total_seconds(), beat)

    @signals.worker_shutdown.connect(weak=False)
    def _end(**_):
        beat(stopping=True)


def clear_scratch_while_alive(settings: PlatformSettings) -> None:
    """Once a minute, by Celery's timer as the heartbeat."""

    def clear() -> None:
        try:
            if ended := clear_ended(settings.data / "scratch", stores_on(settings.database).steps):
                log.info("removed what steps left here that ended elsewhere", steps=len(ended))
        except UNAVAILABLE as error:
            log.warning("folders of ended steps stay for now", error=str(error))
        finally:
            engine_for(settings.database).dispose()

    @signals.worker_ready.connect(weak=False)
    def _begin(sender, **_):
        sender.timer.call_repeatedly(CLEAR_SCRATCH_S, clear)
