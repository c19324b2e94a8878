"""The trainer's worker on the `train` queue: each step in a process of its own, here or where the launcher starts it."""

import threading

from services.trainer import device_loan, supervisor
from services.trainer.launchers.choose import launched, launcher_of
from services.trainer.settings import trainer_settings
from services.trainer.tasks import HANDLERS
from shared.artifacts import capabilities
from shared.artifacts.bases import Bases
from shared.contracts.errors import MeteorError
from shared.contracts.steps import Queue
from shared.platform.log import get_logger
from shared.platform.settings import platform_settings
from shared.queue.step_task import serve_queue

log = get_logger(__name__)


def main() -> None:
    settings = trainer_settings()
    launcher = launcher_of(settings, platform_settings(), HANDLERS)
    try:
        device_loan.check(platform_settings(), settings)
        launcher.check()
    except MeteorError as error:
        raise SystemExit(error.message) from None
    supervisor.sweep(platform_settings().data / "scratch", settings.keep_scratch.total_seconds())
    if settings.probe:
        threading.Thread(target=try_students, name="probe", daemon=True).start()
    serve_queue("trainer", Queue.TRAIN, launched(HANDLERS, launcher), launcher.slots)


def try_students() -> None:
    """Publish what each student can do, for the checks when a job is posted. One after another: it is not urgent."""
    folder = capabilities.folder_of(platform_settings().data)
    for base in Bases().all():
        if base.folder is None or not base.folder.is_dir():
            continue
        try:
            refusal = capabilities.ensure(folder, base.name, base.folder).refusal
        except OSError as error:
            log.error("a student was not tried", student=base.name, error=str(error))
            continue
        if refusal:
            log.error("a student is unfit", student=base.name, reason=refusal.reason, remedy=refusal.remedy)
