"""The gateway's application: the chain and the batches behind its routes."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from functools import cache

from fastapi import FastAPI

from services.strong_model.gateway import routes
from services.strong_model.gateway.batch import Batches
from services.strong_model.gateway.chain import Gateway
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.shared_state import SharedState
from services.strong_model.settings import strong_settings
from shared.db.engine import UNAVAILABLE
from shared.jobs.job_store import JobStore
from shared.jobs.schema import open_stores
from shared.jobs.states import STOPPING_JOBS
from shared.ledger.gateway_store import GatewayStore
from shared.ledger.store import open_ledger
from shared.platform import tracing
from shared.platform.http import new_app
from shared.platform.log import get_logger
from shared.platform.settings import platform_settings

log = get_logger(__name__)
DRAIN_S = 1.0  # how long a stopping gateway waits for what was sent


def gateway_app(providers: dict[str, Provider]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_gateway(providers) as app.state.gateway, open_batches(app.state.gateway) as app.state.batches:
            yield
        await asyncio.to_thread(tracing.flush)

    app = new_app("strong_model", "METEOR strong-model gateway", lifespan=lifespan)
    app.include_router(routes.health)
    app.include_router(routes.router)
    return app


@asynccontextmanager
async def open_gateway(providers: dict[str, Provider]) -> AsyncGenerator[Gateway]:
    settings, platform = strong_settings(), platform_settings()
    name = f"{socket.gethostname()}:{settings.port}"  # of a gateway that was killed here, its successor takes over the calls
    ledger = await asyncio.to_thread(open_ledger, platform.ledger_database, settings.project_limits, name)
    if unknown := await asyncio.to_thread(ledger.mark_unknown):
        log.warning("calls of an earlier process were never settled", calls=unknown)
    gateways, lease_s = GatewayStore(ledger.engine), platform.lease.total_seconds()
    await asyncio.to_thread(gateways.renew, name, lease_s)
    shared = SharedState(platform.redis_url, platform.key_prefix)
    gateway = Gateway(ledger, providers, settings, shared)
    log.info("gateway ready", providers={name: provider.model for name, provider in providers.items()})
    async with _beside(_stay(gateway, gateways, lease_s), shared.renew_forever(), _cancel_for_others(gateway, shared)):
        yield gateway
        await gateway.close(DRAIN_S)
    await shared.close()
    try:
        await asyncio.to_thread(gateways.leave, name)
    except UNAVAILABLE as error:
        log.warning("the gateway's lease ends by itself: the database is away", error=str(error))


@asynccontextmanager
async def _beside(*work: Awaitable[None]) -> AsyncGenerator[None]:
    """Loops that run beside, and end with the block."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stay(gateway: Gateway, gateways: GatewayStore, lease_s: float) -> None:
    """Renew this gateway's lease, and count as paid what gateways left that lost theirs."""
    name = str(gateway.ledger.gateway)
    while True:
        await asyncio.sleep(platform_settings().renew.total_seconds())
        try:
            await asyncio.to_thread(gateways.renew, name, lease_s)
            if lost := await asyncio.to_thread(gateway.ledger.mark_unknown, starting=False):
                log.warning("calls of a gateway that is gone were never settled", calls=lost)
        except UNAVAILABLE as error:
            log.warning("the gateway's lease is not renewed", error=str(error))


async def _cancel_for_others(gateway: Gateway, shared: SharedState) -> None:
    async for step in shared.cancelled():
        await gateway.calls.cancel(step.step_id, step.client_id)


@asynccontextmanager
async def open_batches(gateway: Gateway) -> AsyncGenerator[Batches]:
    @cache
    def jobs() -> JobStore:
        """Opened with the first batch, because the doctor's gateway must not create or migrate the database of jobs."""
        return open_stores(platform_settings().database).jobs

    def is_over(job_id: str) -> bool:
        job = jobs().get(job_id)
        return job is not None and job.status in STOPPING_JOBS

    gateways = GatewayStore(gateway.ledger.engine)
    batches = Batches(gateway, strong_settings(), is_over, lambda: gateways.leads(str(gateway.ledger.gateway)))
    work = asyncio.create_task(batches.run_forever())
    work.add_done_callback(_end_process_on_error)
    try:
        yield batches
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await batches.close()


def _end_process_on_error(work: asyncio.Task[None]) -> None:
    """An unexpected error ends the process; the restarted one continues the batches from their rows."""
    if not work.cancelled() and (error := work.exception()):
        log.error("the batch loop failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
