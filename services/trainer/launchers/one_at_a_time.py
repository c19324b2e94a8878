"""Steps that stay with a worker which has several steps on a cluster: one at a time, because they share its machine."""

from shared.contracts.steps import Progress, StepRequest, StepResult
from shared.platform.file_lock import lock_in_turn
from shared.queue.step_task import Handler, StepContext

LOCK = "trainer.lock"  # in the data folder


def one_at_a_time(handler: Handler) -> Handler:
    """The handler, which begins when no other step that stays with a worker runs on this data folder. Each of the worker's slots is a process of its own."""

    async def run(request: StepRequest, context: StepContext) -> StepResult:
        path = context.settings.data / LOCK
        async with lock_in_turn(path, lambda: context.waits_for("another conversion, push or probe on this machine")):
            context.latest = None if context.latest is None else Progress()  # it no longer waits
            return await handler(request, context)

    return run
