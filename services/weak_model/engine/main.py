"""The engine process: builds the supervisor of one vLLM server from the settings and runs it until a signal."""

import os
import shutil
import signal
from pathlib import Path

from services.weak_model.engine import vllm
from services.weak_model.engine.answer_probe import AnswerProbe
from services.weak_model.engine.control import Control
from services.weak_model.engine.health import is_busy, is_healthy, serves
from services.weak_model.engine.heartbeat import EngineHeartbeat
from services.weak_model.engine.metrics import text_of
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from services.weak_model.engine.sleep import SleepControl
from services.weak_model.engine.supervisor import EngineState, EngineSupervisor, ExternalEngine, Timing, check_port
from services.weak_model.settings import EngineSettings, engine_settings
from shared.artifacts.bases import Bases
from shared.artifacts.opening import open_artifacts
from shared.contracts.device import DeviceSharing
from shared.contracts.errors import FatalError
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import platform_settings

log = get_logger(__name__)


def _build(settings: EngineSettings) -> ExternalEngine:
    vllm.check(settings)
    platform = platform_settings()
    lends = platform.device_sharing is DeviceSharing.TIME
    token = platform.internal_token.get_secret_value()
    timing = Timing.of(settings)
    if settings.url and lends:
        raise FatalError(
            "METEOR_ENGINE_URL names an engine that others run, which lends its device to no training; set METEOR_DEVICE_SHARING=memory "
            "for engine and trainer, or unset METEOR_ENGINE_URL",
            code="engine_settings",
        )
    if settings.url:
        url, name = settings.url, settings.served_name
        return ExternalEngine(lambda: serves(url, token, name), timing)
    vllm.check_device(settings, vllm.on_cpu(), vllm.compute_capability() if settings.quantization else None)
    check_port(settings.host, settings.port)
    adapters = _create(settings.adapters or platform.serving) if settings.lora else Path()
    artifacts = open_artifacts(platform) if platform.artifacts_url else None
    bases, scheduler = Bases(), ModelScheduler(settings.served_name, Rules.of(settings))
    sockets = vllm.socket_folder(platform.data, settings.port)

    def launch(model: str) -> vllm.Launch:
        model_settings = vllm.for_model(settings, model, bases, adapters, artifacts)
        if model_settings is None:
            raise FatalError(f"the files of {model!r} are gone", code="model_missing")
        _empty(sockets)  # the previous engine has ended
        cores, profile = os.sched_getaffinity(0), vllm.prompts(model_settings, bases)
        sharing = vllm.Sharing(sleeps=sleep.mode.available is not False) if sleep else None
        return vllm.launch(model_settings, adapters, token, vllm.on_cpu(), cores, sockets, profile, sharing)

    def is_known(model: str) -> bool:
        return vllm.for_model(settings, model, bases, adapters, artifacts) is not None

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - asked from inside
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    sleep = SleepControl(url, token, _reason_without_sleep(settings)) if lends else None
    scheduler.sleep_mode = sleep.mode if sleep else None
    probe = AnswerProbe(url, token) if settings.probe else None
    engine = EngineSupervisor(
        launch,
        lambda: is_healthy(url),
        lambda: is_busy(url),
        vllm.explain,
        timing,
        scheduler,
        vllm.is_hopeless,
        probe,
        sleep,
    )
    if lends and settings.control_port is None:
        words = "METEOR_DEVICE_SHARING is time, and the trainer asks for the device at METEOR_ENGINE_CONTROL_PORT, which is not set"
        raise FatalError(words, code="engine_settings")
    if settings.control_port is not None:
        check_port(settings.host, settings.control_port)
        control = Control(settings.host, settings.control_port, token, scheduler, is_known, lends)
        control.metrics = text_of(engine)
        control.start()
    return engine


def _reason_without_sleep(settings: EngineSettings) -> str | None:
    """Why the engine does not sleep, as far as that is known before vLLM is asked."""
    if not settings.sleep:
        return "METEOR_ENGINE_SLEEP is false"
    return "vLLM has no sleep mode on a CPU" if vllm.on_cpu() else None


def _create(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the adapters folder {folder} is missing and cannot be created: {error.strerror}"
        raise FatalError(message) from error
    return folder.resolve()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)


def run() -> int:
    set_up_logging("weak_model:engine")
    settings = engine_settings()
    try:
        engine = _build(settings)
    except FatalError as error:
        log.error("the engine cannot be started", reason=error.message)
        return 1
    heartbeat = EngineHeartbeat(
        platform_settings(),
        settings.served_name,
        settings.max_num_seqs,
        lambda: engine.state in (EngineState.READY, EngineState.LENT),
    )

    def end(*_) -> None:
        engine.stop()
        heartbeat.begin_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    heartbeat.start()
    try:
        return engine.run()
    finally:
        heartbeat.stop()
