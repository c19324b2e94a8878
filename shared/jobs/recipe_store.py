"""Recipes and their runs. A run begins in one transaction with the id that its job will have, and ends in another; in between the job is
made under that id. Whoever repeats it after a crash finds the job, or makes it: there is one job for each run.
"""

import time
from typing import NamedTuple

import uuid_utils
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, insert, or_, select, update

from shared.contracts.errors import ErrorBody, NotFound
from shared.contracts.jobs import JobKind
from shared.contracts.notices import NoticeKind
from shared.contracts.recipes import RecipeRequest, RunStatus
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import Values, reading, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.db.lease import FREE, claimed, unowned
from shared.db.paging import keyset_page
from shared.jobs.catalog import live_file
from shared.jobs.job_moves import new_job_id
from shared.jobs.notices import add_notice
from shared.jobs.records import FileRecord, RecipeRecord, RecipeRunRecord
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import files, jobs, notices, recipe_runs, recipes

LOOK_AGAIN_S = 5.0  # until a recipe that is not due is looked at again
RETRY_S = 3600.0  # until a run by rows that failed is tried again
AT_ONCE = 50  # recipes that one transaction looks at


class DueRun(NamedTuple):
    """A run whose job is to be made, and its recipe. run.file_id: None if the source is gone."""

    recipe: RecipeRecord
    run: RecipeRunRecord


class RecipeState(NamedTuple):
    """last: its newest run. source: the newest version; None: the source is gone. waits_for: the unfinished job of the last run."""

    last: RecipeRunRecord | None
    source: FileRecord | None
    waits_for: str | None


class RecipeStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, project_id: str, request: RecipeRequest, key_id: str | None) -> RecipeRecord:
        """The first run is due at once by time, and as soon as the source has enough rows by rows."""
        now = time.time()
        values = request.model_dump(mode="json", exclude={"name"}) | {
            "id": f"recipe-{uuid_utils.uuid7().hex}",
            "project_id": project_id,
            "key_id": key_id,
            "name": request.name,
            "look_at": now,
            "due_at": None if request.trigger.every is None else now,
            "rows_used": 0,
            "runs": 0,
            "created_at": now,
        }
        with writing(self.engine) as connection:
            recipe = fetch_one(connection, RecipeRecord, insert(recipes).values(**values).returning(recipes))
            _tell(connection, recipe, "created", "the recipe was created")
        return recipe

    def get(self, project_id: str, recipe_id: str) -> RecipeRecord:
        """Raises NotFound, also for another project's recipe."""
        with reading(self.engine) as connection:
            return _known(
                fetch_first(connection, RecipeRecord, select(recipes).where(_one(project_id, recipe_id))), recipe_id
            )

    def page(self, project_id: str, after: str | None, limit: int) -> tuple[list[RecipeRecord], bool]:
        """Newest first. Raises UserError for an unknown `after`."""
        query = select(recipes).where(recipes.c.project_id == project_id)
        return keyset_page(self.engine, RecipeRecord, query, recipes.c.id, after, limit, "recipe")

    def state(self, recipe: RecipeRecord) -> RecipeState:
        with reading(self.engine) as connection:
            last = _last_run(connection, recipe)
            return RecipeState(last, newest_version(connection, recipe), _unfinished(connection, last))

    def set_paused(self, project_id: str, recipe_id: str, paused: bool) -> RecipeRecord:
        """A resumed recipe is looked at at once, also where it waited for another try; periods go on as before. Raises NotFound."""
        now = time.time()
        with writing(self.engine) as connection:
            query = select(recipes).where(_one(project_id, recipe_id)).with_for_update()
            before = _known(fetch_first(connection, RecipeRecord, query), recipe_id)
            if (before.paused_at is not None) == paused:
                return before
            values: Values = (
                {"paused_at": now} if paused else {"paused_at": None, "look_at": max(now, before.due_at or 0.0)}
            )
            changed = update(recipes).where(recipes.c.id == recipe_id).values(**values).returning(recipes)
            recipe = fetch_one(connection, RecipeRecord, changed)
            verb = "paused" if paused else "resumed"
            _tell(connection, recipe, verb, f"the recipe was {verb}")
        return recipe

    def delete(self, project_id: str, recipe_id: str) -> None:
        """With its runs and events; the jobs stay. Raises NotFound."""
        with writing(self.engine) as connection:
            query = select(recipes).where(_one(project_id, recipe_id)).with_for_update()
            _known(fetch_first(connection, RecipeRecord, query), recipe_id)
            connection.execute(delete(recipe_runs).where(recipe_runs.c.recipe_id == recipe_id))
            of_it = (notices.c.kind == NoticeKind.RECIPE) & (notices.c.subject == recipe_id)
            connection.execute(delete(notices).where(of_it, notices.c.project_id == project_id))
            connection.execute(delete(recipes).where(recipes.c.id == recipe_id))

    # runs

    def claim(self, owner: str, lease_s: float) -> DueRun | None:
        """Take a run whose process was lost, or begin one that is due."""
        now = time.time()
        lost = and_(recipe_runs.c.status == RunStatus.MAKING, unowned(recipe_runs, now))
        due = and_(recipes.c.paused_at.is_(None), recipes.c.look_at <= now)
        with reading(self.engine) as connection:
            any_lost = connection.execute(select(recipe_runs.c.number).where(lost).limit(1)).first()
            if any_lost is None and connection.execute(select(recipes.c.id).where(due).limit(1)).first() is None:
                return None  # saves a writing transaction; SQLite has one at a time
        with writing(self.engine) as connection:
            again = _take_over(connection, lost, owner, now + lease_s)
            if again is not None:
                return again
            query = select(recipes).where(due).order_by(recipes.c.look_at).limit(AT_ONCE)
            for recipe in fetch_all(connection, RecipeRecord, query.with_for_update(skip_locked=True)):
                begun = _begin(connection, recipe, owner, now, lease_s)
                if begun is not None:
                    return begun
        return None

    def end(self, due: DueRun, error: ErrorBody | None = None) -> bool:
        """The run's job was made, or it cannot be (error). False: another process has taken the run over, or the recipe is gone."""
        recipe, run = due
        mine = and_(
            recipe_runs.c.recipe_id == run.recipe_id,
            recipe_runs.c.number == run.number,
            recipe_runs.c.attempt == run.attempt,
            recipe_runs.c.status == RunStatus.MAKING,
        )
        status = RunStatus.MADE if error is None else RunStatus.FAILED
        values: Values = FREE | {"status": status}
        values |= {} if error is None else {"error": error.model_dump(mode="json")}
        data = {"id": recipe.id, "run": run.number, "file": run.file_id, "rows": run.rows}
        with writing(self.engine) as connection:
            if connection.execute(update(recipe_runs).where(mine).values(**values)).rowcount == 0:
                return False
            of_recipe = update(recipes).where(recipes.c.id == recipe.id)
            if error is None:
                connection.execute(of_recipe.values(rows_used=run.rows or 0))
                made = f"run {run.number}: job {run.job_id} on {run.rows} rows"
                _tell(connection, recipe, "made", made, data | {"job_id": run.job_id})
                return True
            if recipe.trigger.rows is not None:
                connection.execute(of_recipe.values(look_at=time.time() + RETRY_S))
            failed = f"run {run.number} made no job: {error.message}"
            said = data | {"error": error.model_dump(mode="json")}
            _tell(connection, recipe, "failed", failed, said, level="error", webhook=WebhookEvent.RECIPE_FAILED)
        return True


def newest_version(connection: Connection, recipe: RecipeRecord) -> FileRecord | None:
    """Of the dataset that the source names; None: it was deleted."""
    named = select(files.c.dataset_id).where(files.c.id == recipe.source.file, files.c.project_id == recipe.project_id)
    dataset = connection.execute(named).scalar() or recipe.source.file
    versions = or_(files.c.id == dataset, files.c.dataset_id == dataset)
    query = select(files).where(versions, files.c.project_id == recipe.project_id, live_file())
    of_dataset = fetch_all(connection, FileRecord, query)
    return max(of_dataset, key=lambda file: file.version or 1, default=None)


def next_due(recipe: RecipeRecord, now: float) -> float | None:
    """Of a recipe by time: when it is due after a run that begins now. Periods that were missed are left out."""
    if recipe.trigger.every is None or recipe.due_at is None:
        return None
    period = recipe.trigger.every.total_seconds()
    return recipe.due_at + period * ((now - recipe.due_at) // period + 1)


def _begin(connection: Connection, recipe: RecipeRecord, owner: str, now: float, lease_s: float) -> DueRun | None:
    """None: it is not due, and is looked at again later."""
    last, source = _last_run(connection, recipe), newest_version(connection, recipe)
    making = last is not None and last.status == RunStatus.MAKING
    waits = making or _unfinished(connection, last) is not None
    wanted = recipe.trigger.rows
    if waits or (wanted is not None and source is not None and (source.n_rows or 0) - recipe.rows_used < wanted):
        later = update(recipes).where(recipes.c.id == recipe.id).values(look_at=now + LOOK_AGAIN_S)
        connection.execute(later)
        return None
    number, due_at = recipe.runs + 1, next_due(recipe, now)
    values = {"runs": number, "due_at": due_at, "look_at": now + LOOK_AGAIN_S if due_at is None else due_at}
    changed = update(recipes).where(recipes.c.id == recipe.id).values(**values).returning(recipes)
    recipe = fetch_one(connection, RecipeRecord, changed)
    run = insert(recipe_runs).values(
        recipe_id=recipe.id,
        number=number,
        project_id=recipe.project_id,
        status=RunStatus.MAKING,
        job_id=new_job_id(JobKind.DISTILLATION),
        file_id=None if source is None else source.id,
        rows=None if source is None else source.n_rows,
        lease_owner=owner,
        lease_expires=now + lease_s,
        attempt=1,
        created_at=now,
    )
    return DueRun(recipe, fetch_one(connection, RecipeRunRecord, run.returning(recipe_runs)))


def _take_over(connection: Connection, lost: ColumnElement[bool], owner: str, until: float) -> DueRun | None:
    query = select(recipe_runs).where(lost).limit(1).with_for_update(skip_locked=True)
    run = fetch_first(connection, RecipeRunRecord, query)
    if run is None:
        return None
    same = and_(recipe_runs.c.recipe_id == run.recipe_id, recipe_runs.c.number == run.number)
    taken = update(recipe_runs).where(same).values(**claimed(recipe_runs, owner, until)).returning(recipe_runs)
    recipe = fetch_one(connection, RecipeRecord, select(recipes).where(recipes.c.id == run.recipe_id))
    return DueRun(recipe, fetch_one(connection, RecipeRunRecord, taken))


def _last_run(connection: Connection, recipe: RecipeRecord) -> RecipeRunRecord | None:
    query = select(recipe_runs).where(recipe_runs.c.recipe_id == recipe.id, recipe_runs.c.number == recipe.runs)
    return fetch_first(connection, RecipeRunRecord, query)


def _unfinished(connection: Connection, run: RecipeRunRecord | None) -> str | None:
    """The job of a run that has not ended."""
    if run is None:
        return None
    active = (jobs.c.id == run.job_id) & jobs.c.status.not_in(FINAL_JOBS)
    return connection.execute(select(jobs.c.id).where(active)).scalar()


def _tell(
    connection: Connection,
    recipe: RecipeRecord,
    type: str,
    message: str,
    data: Values | None = None,
    level: str = "info",
    webhook: WebhookEvent | None = None,
) -> None:
    told = {"name": recipe.name} | (data or {"id": recipe.id})
    add_notice(
        connection, recipe.project_id, NoticeKind.RECIPE, recipe.id, type, message, told, level=level, webhook=webhook
    )


def _one(project_id: str, recipe_id: str) -> ColumnElement[bool]:
    return and_(recipes.c.id == recipe_id, recipes.c.project_id == project_id)


def _known(recipe: RecipeRecord | None, recipe_id: str) -> RecipeRecord:
    if recipe is None:
        raise NotFound(f"no recipe {recipe_id!r}", param="recipe_id", code="recipe_not_found")
    return recipe
