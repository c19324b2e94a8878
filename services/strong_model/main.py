"""Starts one of the two processes: the gateway (HTTP, the only holder of provider keys) or the worker of queue `strong`."""

import argparse

import uvicorn

from services.strong_model.gateway.app import gateway_app
from services.strong_model.gateway.providers import all_providers
from services.strong_model.settings import strong_settings
from shared.platform.log import set_up_logging
from shared.platform.providers import ProvidersFileError, providers_path
from shared.platform.settings import platform_settings

SHUTDOWN_S = 5  # for answers on their way when the process is told to end


def run_gateway() -> None:
    set_up_logging("strong_model:gateway")
    if not platform_settings().internal_token.get_secret_value():
        raise SystemExit("METEOR_INTERNAL_TOKEN is not set; the gateway answers nobody without it")
    settings = strong_settings()
    try:
        providers = all_providers(providers_path(platform_settings().providers_file, platform_settings().data))
    except ProvidersFileError as error:
        raise SystemExit(error.message) from None
    uvicorn.run(
        gateway_app(providers),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


def run_worker() -> None:
    # imported here: the gateway needs neither Celery nor the SDK, which take longer to load than everything else
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
