"""Steps are computed beside the worker, in a guarded process of this machine (services/trainer/supervisor.py)."""

import asyncio
from collections.abc import Mapping

from services.trainer.runs import Owner, Runs
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.queue.step_task import Handler, StepContext


class Local:
    slots = 1

    def __init__(self, handlers: Mapping[StepKind, Handler]):
        self.handlers = handlers

    def check(self) -> None:
        """Nothing is elsewhere."""

    async def run(self, request: StepRequest, context: StepContext) -> StepResult:
        """A run that an earlier attempt left on a cluster ends, once it sees that it no longer has the step.

        A first attempt has no such run, so it does not read the storage.
        """
        if context.settings.artifacts_url and context.claim.attempt > 1:
            await asyncio.to_thread(_take_over, Runs(context.settings, context.claim.step_id), context.claim.attempt)
        return await self.handlers[request.kind](request, context)


def _take_over(runs: Runs, attempt: int) -> None:
    if runs.owner() is not None:
        runs.own(Owner(attempt=attempt, run=None))
