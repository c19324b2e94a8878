"""`python -m services.orchestrator`: runs until SIGTERM."""

import asyncio
import contextlib
import os
import signal

from services.orchestrator.scheduler import Orchestrator
from services.orchestrator.settings import OrchestratorSettings
from shared.jobs.schema import open_stores
from shared.ledger.store import open_ledger
from shared.platform import tracing
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import platform_settings

log = get_logger(__name__)


async def serve() -> None:
    platform = platform_settings()
    orchestrator = Orchestrator(
        open_stores(platform.database), open_ledger(platform.ledger_database), platform, OrchestratorSettings()
    )
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    log.info("orchestrator ready")
    try:
        await orchestrator.run_forever()
    finally:
        await orchestrator.drain()
        await asyncio.to_thread(tracing.flush)


def main() -> None:
    set_up_logging("orchestrator")
    loop = asyncio.new_event_loop()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(serve())
    # Without waiting for threads, one of which may just read gigabytes to hash them; what they do bears a kill anywhere.
    os._exit(0)
