"""Makes the jobs of recipes that are due. Any number of processes may run this: a run belongs to one of them, and has one job.

A process that is killed leaves its run behind; another takes it over when its lease has ended, and finds the job or makes it.
"""

import asyncio
import os
import socket

from services.api.context import ApiContext, Caller
from services.api.features.jobs import service as jobs
from services.api.features.recipes.service import job_body
from shared.contracts.errors import ErrorBody, NotFound, TransientError, as_body
from shared.db.engine import UNAVAILABLE
from shared.jobs.recipe_store import DueRun
from shared.platform.log import get_logger

log = get_logger(__name__)
LOOK_S = 2.0
LEASE_S = 120.0  # the checks of a job take some seconds
CALLER = "recipe"


class RecipeRunner:
    def __init__(self, context: ApiContext, lease_s: float = LEASE_S):
        self.context = context
        self.lease_s = lease_s
        self.owner = f"api@{socket.gethostname()}:{os.getpid()}"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                while await asyncio.to_thread(self.step):
                    pass
            except UNAVAILABLE as error:
                log.warning("database unavailable, recipes wait", error=str(error))
            except Exception:
                log.exception("running recipes failed")
            await asyncio.sleep(LOOK_S)

    def step(self) -> bool:
        """Do one run that is due. False: there is none."""
        due = self.context.stores.recipes.claim(self.owner, self.lease_s)
        if due is None:
            return False
        try:
            error = self._make(due)
        except (*UNAVAILABLE, TransientError) as failure:
            log.warning("run interrupted, it is taken up when its lease ends", recipe=due.recipe.id, error=str(failure))
            return True
        if self.context.stores.recipes.end(due, error):
            log.info("recipe ran", recipe=due.recipe.id, run=due.run.number, error=error and error.code)
        return True

    def _make(self, due: DueRun) -> ErrorBody | None:
        """Make the run's job, unless an earlier attempt has. Returns why it cannot be made."""
        recipe, run = due
        if self.context.stores.jobs.get(run.job_id) is not None:
            return None
        key = recipe.key_id
        context = self.context.of(Caller(recipe.project_id, key or CALLER, operator=key is None))
        try:
            if run.file_id is None:
                raise NotFound(
                    f"the source {recipe.source.file!r} was deleted", param="source.file", code="file_not_found"
                )
            body = job_body(recipe.job, recipe.budget, run.file_id, recipe.id, run.number)
            jobs.create(context, jobs.job_request(body), job_id=run.job_id)
        except (*UNAVAILABLE, TransientError):
            raise
        except Exception as error:  # whatever it is: it must not stop the next run
            log.warning("recipe made no job", recipe=recipe.id, run=run.number, error=repr(error))
            return as_body(error)
        return None
