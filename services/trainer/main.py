"""The trainer's worker on the `train` queue: one step at a time, each in a process of its own."""

from services.trainer import supervisor
from services.trainer.settings import trainer_settings
from services.trainer.tasks import HANDLERS
from shared.contracts.steps import Queue
from shared.platform.settings import platform_settings
from shared.queue.step_task import serve_queue


def main() -> None:
    supervisor.sweep(platform_settings().data / "scratch", trainer_settings().keep_scratch.total_seconds())
    serve_queue("trainer", Queue.TRAIN, HANDLERS, slots=1)
