"""The judge's worker on the `judge` queue."""

from services.judge.settings import judge_settings
from services.judge.tasks import HANDLERS
from shared.contracts.steps import Queue
from shared.queue.step_task import serve_queue


def main() -> None:
    serve_queue("judge", Queue.JUDGE, HANDLERS, judge_settings().slots)
