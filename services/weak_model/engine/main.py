"""The engine process: builds the supervisor of one vLLM server from the settings and runs it until a signal."""

import os
import shutil
import signal
from pathlib import Path

from services.weak_model.engine import vllm
from services.weak_model.engine.control import Control
from services.weak_model.engine.health import is_busy, is_healthy, serves
from services.weak_model.engine.heartbeat import Pulse
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from services.weak_model.engine.supervisor import Engine, EngineState, Patience, WatchedEngine, check_port
from services.weak_model.settings import EngineSettings, engine_settings
from shared.artifacts.bases import Bases
from shared.contracts.errors import FatalError
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import platform_settings

log = get_logger(__name__)


def _engine(settings: EngineSettings) -> WatchedEngine:
    vllm.check(settings)
    platform = platform_settings()
    token = platform.internal_token.get_secret_value()
    patience = Patience.of(settings)
    if settings.url:
        url, name = settings.url, settings.served_name
        return WatchedEngine(lambda: serves(url, token, name), patience)
    check_port(settings.host, settings.port)
    adapters = _existing(settings.adapters or platform.serving) if settings.lora else Path()
    bases, choice = Bases(), ModelScheduler(settings.served_name, Rules.of(settings))
    sockets = vllm.socket_folder(platform.data, settings.port)

    def launch(model: str) -> vllm.Launch:
        own = vllm.for_model(settings, model, bases, adapters)
        if own is None:
            raise FatalError(f"the files of {model!r} are gone", code="model_missing")
        _emptied(sockets)  # the engine before this one is gone
        return vllm.launch(own, adapters, token, vllm.on_cpu(), os.sched_getaffinity(0), sockets)

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - asked from inside
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    if settings.control_port is not None:
        check_port(settings.host, settings.control_port)
        known = lambda model: vllm.for_model(settings, model, bases, adapters) is not None  # noqa: E731
        Control(settings.host, settings.control_port, token, choice, known).start()
    return Engine(launch, lambda: is_healthy(url), lambda: is_busy(url), vllm.explain, patience, choice)


def _existing(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FatalError(f"the adapters folder {folder} is missing and cannot be made: {error.strerror}") from error
    return folder.resolve()


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)


def run() -> int:
    set_up_logging("weak_model:engine")
    settings = engine_settings()
    try:
        engine = _engine(settings)
    except FatalError as error:
        log.error("the engine cannot be started", reason=error.message)
        return 1
    pulse = Pulse(
        platform_settings(), settings.served_name, settings.max_num_seqs, lambda: engine.state == EngineState.READY
    )

    def end(*_) -> None:
        engine.stop()
        pulse.leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    pulse.start()
    try:
        return engine.run()
    finally:
        pulse.stop()
