"""Makes the jobs of recipes that are due. Any number of processes may run this: a run belongs to one of them, and has one job.

A process that is killed leaves its run behind; another takes it over when its lease has ended, and finds the job or makes it. A run of
stored chats is taken up twice: to post the import of its chats, and when that has ended to post the job.
"""

import asyncio
import os
import socket

from services.api.context import ApiContext, Caller, ProjectContext
from services.api.features.imports import service as imports
from services.api.features.jobs import service as jobs
from services.api.features.jobs.starts import learned_from
from services.api.features.recipes.service import job_body
from shared.contracts.errors import NotFound, TransientError, UserError, as_body
from shared.contracts.imports import NOTHING_TO_IMPORT, CompletionsOptions, ImportRequest, ImportResult, OfRecipe
from shared.contracts.jobs import JobStatus
from shared.contracts.recipes import RECIPE, RUN, ChatsSource
from shared.db.engine import UNAVAILABLE
from shared.jobs.recipe_store import DueRun
from shared.jobs.records import FileRecord, JobRecord, RecipeRecord, RecipeRunRecord
from shared.platform.log import get_logger

log = get_logger(__name__)
LOOK_S = 2.0
LEASE_S = 120.0  # the checks of a job take some seconds
CALLER = "recipe"


class NothingNew(Exception):
    """Why a run makes no job although nothing failed."""


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
        recipe, run = due
        store = self.context.stores.recipes
        try:
            self._go_on(due)
        except (*UNAVAILABLE, TransientError) as failure:
            log.warning("run interrupted, it is taken up when its lease ends", recipe=recipe.id, error=str(failure))
        except NothingNew as reason:
            store.end(due, nothing_new=str(reason))
            log.info("recipe found nothing new", recipe=recipe.id, run=run.number)
        except Exception as error:  # whatever it is: it must not stop the next run
            log.warning("recipe made no job", recipe=recipe.id, run=run.number, error=repr(error))
            store.end(due, as_body(error))
        return True

    def _go_on(self, due: DueRun) -> None:
        """The next part of a run. Raises NothingNew, and whatever says why its job cannot be made."""
        recipe, run = due
        key = recipe.key_id
        context = self.context.of(Caller(recipe.project_id, key or CALLER, operator=key is None))
        if run.import_id is not None and run.file_id is None:
            imported = self.context.stores.jobs.get(run.import_id)
            if imported is None:
                post_import(context, recipe, run)
                self.context.stores.recipes.wait(run)
                return
            noted = self.context.stores.recipes.learn_from(due, version_of(context, recipe, imported))
            if noted is None:
                return
            due = noted
        if self.context.stores.jobs.get(run.job_id) is None:
            post_job(context, *due)
        if self.context.stores.recipes.end(due):
            log.info("recipe ran", recipe=recipe.id, run=run.number)


def post_import(context: ProjectContext, recipe: RecipeRecord, run: RecipeRunRecord) -> None:
    """Of the recipe's new chats. Raises UserError."""
    assert isinstance(recipe.source, ChatsSource)
    options = recipe.source.model_dump(exclude={"mask"}) | {"dataset": recipe.dataset}
    source = CompletionsOptions.model_validate(options)
    metadata = {RECIPE: recipe.id, RUN: str(run.number)}
    request = ImportRequest(source=source, mask=recipe.source.mask, metadata=metadata)
    of = OfRecipe(id=recipe.id, run=run.number)
    learned = learned_from(context, str(recipe.job.get("model", "")))
    imports.create(context, request, job_id=run.import_id, recipe=of, learned=learned)


def version_of(context: ProjectContext, recipe: RecipeRecord, imported: JobRecord) -> FileRecord:
    """What the run's job learns from: what the import made; where it found nothing, what another run left unlearned. Raises NothingNew,
    and UserError for an import that failed otherwise."""
    if imported.status == JobStatus.SUCCEEDED:
        return context.file(ImportResult.model_validate(imported.result).file)
    if imported.error is not None and imported.error.code == NOTHING_TO_IMPORT:
        newest = context.stores.recipes.newest(recipe)
        if newest is None or (newest.n_rows or 0) <= recipe.rows_used:
            raise NothingNew(imported.error.message)
        return newest
    why = imported.error.message if imported.error is not None else f"it was {imported.status}"
    raise UserError(f"the import {imported.id} made no dataset: {why}", param="source", code="import_failed")


def post_job(context: ProjectContext, recipe: RecipeRecord, run: RecipeRunRecord) -> None:
    """Raises UserError."""
    if run.file_id is None:
        raise NotFound(f"the source {recipe.dataset!r} was deleted", param="source", code="file_not_found")
    body = job_body(recipe.job, recipe.budget, run.file_id, recipe.id, run.number)
    jobs.create(context, jobs.job_request(body), job_id=run.job_id)
