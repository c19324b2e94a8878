"""The Celery application. Its settings follow from measurements of Celery and Redis (docs/adr/0002-queue.md).

The database holds the state; a message only says "look at step X". Messages are acknowledged early; the row has a lease.
"""

from functools import lru_cache

from celery import Celery
from kombu.entity import Queue as KombuQueue
from kombu.exceptions import OperationalError

from shared.contracts.errors import TransientError
from shared.contracts.steps import Queue
from shared.platform.settings import platform_settings

STEP_TASK = "meteor.step"


@lru_cache
def celery_app() -> Celery:
    settings = platform_settings()
    app = Celery("meteor", broker=settings.redis_url)
    app.conf.update(
        task_queues=[KombuQueue(queue.value) for queue in Queue],
        task_create_missing_queues=False,
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_proc_alive_timeout=30,  # a busy machine may take longer than the default 4 s to start a pool process
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "global_keyprefix": settings.key_prefix,
            "ack_emulation": False,  # two round trips per message, for a redelivery after an hour; rows are resent after 30 s
            "health_check_interval": 25,
        },
    )
    return app


def send(step_id: str, queue: Queue) -> None:
    """Send one message. Call it after the row was committed, never inside a transaction.

    Raises TransientError when the broker is unavailable; the row stays unsent and the reaper sends it later.
    """
    try:
        _send(step_id, queue)
    except OperationalError as error:
        raise TransientError(f"the broker does not answer: {error}", code="broker_unavailable") from error


def _send(step_id: str, queue: Queue) -> None:
    celery_app().send_task(STEP_TASK, args=[step_id], queue=queue.value, retry=False, ignore_result=True)
