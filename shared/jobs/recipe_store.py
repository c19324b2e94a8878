"""Recipes and their runs. A run begins in one transaction with the id that its job will have, and ends in another; in between the job is
made under that id. Whoever repeats it after a crash finds the job, or makes it: there is one job for each run.

A run of stored chats has an import first, whose id is drawn in the same way. While the import is at work nobody holds the run.
"""

import time
from typing import NamedTuple

import uuid_utils
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, insert, select, update

from shared.contracts.errors import ErrorBody, NotFound
from shared.contracts.jobs import JobKind
from shared.contracts.notices import NoticeKind
from shared.contracts.recipes import ChatsSource, RecipeRequest, RunStatus
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import Values, reading, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.db.lease import FREE, claimed, unowned
from shared.db.paging import keyset_page
from shared.jobs.catalog import newest_version
from shared.jobs.chat_store import ChatFilter, new_chats
from shared.jobs.job_moves import new_job_id
from shared.jobs.notices import add_notice
from shared.jobs.records import FileRecord, RecipeRecord, RecipeRunRecord
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import jobs, notices, recipe_chats, recipe_runs, recipes

LOOK_AGAIN_S = 5.0  # until a recipe that is not due is looked at again
RETRY_S = 3600.0  # until a run by rows that failed is tried again
AT_ONCE = 50  # recipes that one transaction looks at


class DueRun(NamedTuple):
    """A run whose job is to be made, and its recipe. run.file_id: None if the source is gone, and until the run's import has made it."""

    recipe: RecipeRecord
    run: RecipeRunRecord


class RecipeState(NamedTuple):
    """last: its newest run. source: the newest version; None: it is gone, or still to be made. new_rows: rows and chats that no run has
    used. waits_for: the unfinished import or job of the last run."""

    last: RecipeRunRecord | None
    source: FileRecord | None
    new_rows: int
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
            last, source = _last_run(connection, recipe), _source(connection, recipe)
            return RecipeState(last, source, _new_rows(connection, recipe, source), _unfinished(connection, last))

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
            connection.execute(delete(recipe_chats).where(recipe_chats.c.recipe_id == recipe_id))
            connection.execute(delete(recipe_runs).where(recipe_runs.c.recipe_id == recipe_id))
            of_it = (notices.c.kind == NoticeKind.RECIPE) & (notices.c.subject == recipe_id)
            connection.execute(delete(notices).where(of_it, notices.c.project_id == project_id))
            connection.execute(delete(recipes).where(recipes.c.id == recipe_id))

    # runs

    def claim(self, owner: str, lease_s: float) -> DueRun | None:
        """Take a run whose process was lost, or begin one that is due."""
        now = time.time()
        at_work = (jobs.c.id == recipe_runs.c.import_id) & jobs.c.status.not_in(FINAL_JOBS)
        lost = and_(
            recipe_runs.c.status == RunStatus.MAKING,
            unowned(recipe_runs, now),
            ~select(jobs.c.id).where(at_work).exists(),
        )
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

    def wait(self, run: RecipeRunRecord) -> None:
        """The run's import is at work: whoever looks when it has ended goes on."""
        with writing(self.engine) as connection:
            connection.execute(update(recipe_runs).where(_held(run)).values(**FREE))

    def newest(self, recipe: RecipeRecord) -> FileRecord | None:
        """The newest version of what the recipe's jobs learn from."""
        with reading(self.engine) as connection:
            return _source(connection, recipe)

    def learn_from(self, due: DueRun, file: FileRecord) -> DueRun | None:
        """Note the version that the run's import has made, of the recipe too. None: another process has taken the run over."""
        recipe, run = due
        values: Values = {"file_id": file.id, "rows": file.n_rows}
        with writing(self.engine) as connection:
            changed = update(recipe_runs).where(_held(run)).values(**values).returning(recipe_runs)
            noted = fetch_first(connection, RecipeRunRecord, changed)
            if noted is None:
                return None
            of_recipe = update(recipes).where(recipes.c.id == recipe.id).values(dataset_id=file.id)
            return DueRun(fetch_one(connection, RecipeRecord, of_recipe.returning(recipes)), noted)

    def end(self, due: DueRun, error: ErrorBody | None = None, nothing_new: str | None = None) -> bool:
        """The run's job was made, or it cannot be (error), or the run's chats bring nothing (nothing_new: why). False: another process has
        taken the run over, or the recipe is gone."""
        recipe, run = due
        status = RunStatus.MADE if error is None else RunStatus.FAILED
        values: Values = FREE | {"status": status if nothing_new is None else RunStatus.NOTHING_NEW}
        values |= {} if error is None else {"error": error.model_dump(mode="json")}
        with writing(self.engine) as connection:
            changed = update(recipe_runs).where(_held(run)).values(**values).returning(recipe_runs)
            run = fetch_first(connection, RecipeRunRecord, changed)
            if run is None:
                return False
            data = {"id": recipe.id, "run": run.number, "file": run.file_id, "rows": run.rows}
            of_recipe = update(recipes).where(recipes.c.id == recipe.id)
            if nothing_new is not None:
                _tell(connection, recipe, "nothing_new", f"run {run.number} made no job: {nothing_new}", data)
                return True
            if error is None:
                connection.execute(of_recipe.values(rows_used=run.rows or 0))
                made = f"run {run.number}: job {run.job_id} on {run.rows} rows"
                _tell(connection, recipe, "made", made, data | {"job_id": run.job_id})
                return True
            if run.file_id is None:  # its chats are in no dataset: the next run takes them
                taken = (recipe_chats.c.recipe_id == recipe.id) & (recipe_chats.c.run == run.number)
                connection.execute(delete(recipe_chats).where(taken))
            if recipe.trigger.rows is not None:
                connection.execute(of_recipe.values(look_at=time.time() + RETRY_S))
            failed = f"run {run.number} made no job: {error.message}"
            said = data | {"error": error.model_dump(mode="json")}
            _tell(connection, recipe, "failed", failed, said, level="error", webhook=WebhookEvent.RECIPE_FAILED)
        return True


def _held(run: RecipeRunRecord) -> ColumnElement[bool]:
    """The run in the attempt that holds it."""
    return and_(
        recipe_runs.c.recipe_id == run.recipe_id,
        recipe_runs.c.number == run.number,
        recipe_runs.c.attempt == run.attempt,
        recipe_runs.c.status == RunStatus.MAKING,
    )


def _source(connection: Connection, recipe: RecipeRecord) -> FileRecord | None:
    return None if recipe.dataset is None else newest_version(connection, recipe.project_id, recipe.dataset)


def _new_rows(connection: Connection, recipe: RecipeRecord, source: FileRecord | None) -> int:
    """Rows of the source that the last job had not, and chats that no run has taken."""
    rows = 0 if source is None else (source.n_rows or 0) - recipe.rows_used
    if isinstance(recipe.source, ChatsSource):
        rows += new_chats(connection, recipe.project_id, ChatFilter.of(recipe.source), recipe.id)
    return rows


def next_due(recipe: RecipeRecord, now: float) -> float | None:
    """Of a recipe by time: when it is due after a run that begins now. Periods that were missed are left out."""
    if recipe.trigger.every is None or recipe.due_at is None:
        return None
    period = recipe.trigger.every.total_seconds()
    return recipe.due_at + period * ((now - recipe.due_at) // period + 1)


def _begin(connection: Connection, recipe: RecipeRecord, owner: str, now: float, lease_s: float) -> DueRun | None:
    """None: it is not due, and is looked at again later."""
    last, source = _last_run(connection, recipe), _source(connection, recipe)
    making = last is not None and last.status == RunStatus.MAKING
    waits = making or _unfinished(connection, last) is not None
    chats = isinstance(recipe.source, ChatsSource)
    gone = source is None and recipe.dataset is not None
    wanted = recipe.trigger.rows
    if waits or (wanted is not None and not gone and _new_rows(connection, recipe, source) < wanted):
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
        file_id=None if source is None or chats else source.id,
        rows=None if source is None or chats else source.n_rows,
        lease_owner=owner,
        lease_expires=now + lease_s,
        attempt=1,
        created_at=now,
        import_id=new_job_id(JobKind.IMPORT) if chats and not gone else None,
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
    """The import or the job of a run that has not ended."""
    if run is None:
        return None
    active = jobs.c.id.in_([run.import_id, run.job_id]) & jobs.c.status.not_in(FINAL_JOBS)
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
