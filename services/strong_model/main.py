"""Starts one of the two processes: the gateway (HTTP, the only holder of provider keys) or the worker of queue `strong`."""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import uvicorn
from fastapi import FastAPI

from services.strong_model.gateway import app as routes
from services.strong_model.gateway.batch import Batches
from services.strong_model.gateway.coalesce import Calls
from services.strong_model.gateway.provider import ProviderClient
from services.strong_model.settings import Provider, all_providers, strong_settings
from shared.jobs.job_store import JobStore
from shared.jobs.schema import open_stores
from shared.jobs.states import STOPPING_JOBS
from shared.ledger.store import open_ledger
from shared.platform.http import new_app
from shared.platform.log import get_logger, set_up_logging
from shared.platform.providers import ProvidersFileError
from shared.platform.settings import platform_settings

log = get_logger(__name__)
LEAVE_S = 5  # for answers on their way when the process is told to end


def gateway_app(table: dict[str, Provider]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_calls(table) as app.state.calls, open_batches(app.state.calls) as app.state.batches:
            yield

    app = new_app("strong_model", "METEOR strong-model gateway", lifespan=lifespan)
    app.include_router(routes.health)
    app.include_router(routes.router)
    return app


@asynccontextmanager
async def open_calls(table: dict[str, Provider]) -> AsyncIterator[Calls]:
    settings = strong_settings()
    ledger = await asyncio.to_thread(open_ledger, platform_settings().ledger_database, settings.project_limits)
    if unknown := await asyncio.to_thread(ledger.mark_unknown):
        log.warning("calls of an earlier process were never settled", calls=unknown)
    clients = {name: ProviderClient(provider, settings) for name, provider in table.items()}
    calls = Calls(ledger, clients, settings)
    log.info("gateway ready", providers={name: provider.model for name, provider in table.items()})
    yield calls
    await calls.close(patience_s=1)
    for client in clients.values():
        await client.close()


@asynccontextmanager
async def open_batches(calls: Calls) -> AsyncIterator[Batches]:
    @cache
    def jobs() -> JobStore:
        """Opened with the first batch: looking at providers alone neither makes nor migrates the database of jobs."""
        return open_stores(platform_settings().database).jobs

    def is_over(job_id: str) -> bool:
        row = jobs().get(job_id)
        return row is not None and row.status in STOPPING_JOBS

    batches = Batches(calls, strong_settings(), is_over)
    work = asyncio.create_task(batches.run_forever())
    work.add_done_callback(_end_with)
    try:
        yield batches
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await batches.close()


def _end_with(work: asyncio.Task[None]) -> None:
    """What nobody foresaw ends the process, which is started again; batches go on from their rows then."""
    if not work.cancelled() and (error := work.exception()):
        log.error("batches are not looked after any more", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)


def run_gateway() -> None:
    set_up_logging("strong_model:gateway")
    if not platform_settings().internal_token.get_secret_value():
        raise SystemExit("METEOR_INTERNAL_TOKEN is not set; the gateway answers nobody without it")
    settings = strong_settings()
    try:
        table = all_providers(platform_settings().providers_file)
    except ProvidersFileError as error:
        raise SystemExit(error.message) from None
    uvicorn.run(
        gateway_app(table),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=LEAVE_S,
    )


def run_worker() -> None:
    # imported here: the gateway needs neither Celery nor the SDK, and they take longer to load than all the rest
    from services.strong_model.worker.tasks import HANDLERS
    from shared.contracts.steps import Queue
    from shared.queue.step_task import serve_queue

    serve_queue("strong_model", Queue.STRONG, HANDLERS, strong_settings().slots)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.strong_model", description=__doc__)
    parser.add_argument("process", choices=["gateway", "worker"])
    if parser.parse_args().process == "gateway":
        run_gateway()
    else:
        run_worker()
