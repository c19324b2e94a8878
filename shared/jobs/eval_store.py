"""Evals, and which jobs are their runs. A run is deleted with its steps and events; what it has paid for stays on the ledger."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import uuid_utils
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, insert, select, update

from shared.contracts.errors import Conflict, NotFound
from shared.contracts.evals import Criterion, CustomSource
from shared.contracts.jobs import JobKind, JobStatus
from shared.db.engine import reading, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.db.paging import keyset_page
from shared.jobs.job_moves import no_eval
from shared.jobs.records import EvalRecord, JobRecord
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import evals, events, jobs, steps


class EvalStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(
        self,
        project_id: str,
        name: str,
        data_source: CustomSource,
        criteria: Sequence[Criterion],
        metadata: Mapping[str, str] | None,
    ) -> EvalRecord:
        now = time.time()
        values = {
            "id": f"eval-{uuid_utils.uuid7().hex}",
            "project_id": project_id,
            "name": name,
            "data_source": data_source.model_dump(mode="json"),
            "criteria": [one.model_dump(mode="json") for one in criteria],
            "metadata": None if metadata is None else dict(metadata),
            "created_at": now,
            "updated_at": now,
        }
        with writing(self.engine) as connection:
            return fetch_one(connection, EvalRecord, insert(evals).values(**values).returning(evals))

    def get(self, project_id: str, eval_id: str) -> EvalRecord:
        """Raises NotFound, also for another project's eval."""
        with reading(self.engine) as connection:
            return _known(fetch_first(connection, EvalRecord, select(evals).where(_one(project_id, eval_id))), eval_id)

    def page(
        self, project_id: str, after: str | None, limit: int, ascending: bool, by_update: bool = False
    ) -> tuple[list[EvalRecord], bool]:
        """Raises UserError for an unknown `after`."""
        query = select(evals).where(evals.c.project_id == project_id)
        order = (evals.c.updated_at, evals.c.id) if by_update else ()
        return keyset_page(
            self.engine, EvalRecord, query, evals.c.id, after, limit, "eval", order=order, ascending=ascending
        )

    def change(self, project_id: str, eval_id: str, values: Mapping[str, Any]) -> EvalRecord:
        """Raises NotFound."""
        changed = update(evals).where(_one(project_id, eval_id)).values(updated_at=time.time(), **values)
        with writing(self.engine) as connection:
            return _known(fetch_first(connection, EvalRecord, changed.returning(evals)), eval_id)

    def delete(self, project_id: str, eval_id: str) -> None:
        """With its runs. Raises NotFound, and Conflict while one of them is under way."""
        with writing(self.engine) as connection:
            mine = select(evals).where(_one(project_id, eval_id)).with_for_update()
            _known(fetch_first(connection, EvalRecord, mine), eval_id)
            runs = fetch_all(connection, JobRecord, select(jobs).where(_runs(project_id, eval_id)).with_for_update())
            _refuse_active(runs)
            for run in runs:
                _remove(connection, run)
            connection.execute(delete(evals).where(evals.c.id == eval_id))

    def run(self, project_id: str, eval_id: str, run_id: str) -> JobRecord:
        """Raises NotFound for an unknown eval, and for a run that is not one of its."""
        self.get(project_id, eval_id)
        query = select(jobs).where(_runs(project_id, eval_id), jobs.c.id == run_id)
        with reading(self.engine) as connection:
            return _known_run(fetch_first(connection, JobRecord, query), run_id)

    def runs(
        self,
        project_id: str,
        eval_id: str,
        after: str | None,
        limit: int,
        ascending: bool,
        statuses: Collection[JobStatus] = (),
    ) -> tuple[list[JobRecord], bool]:
        """statuses: of these alone; empty: of any. Raises UserError for an unknown `after`, NotFound for an unknown eval."""
        self.get(project_id, eval_id)
        all_of_it = select(jobs).where(_runs(project_id, eval_id))
        query = all_of_it.where(jobs.c.status.in_(statuses)) if statuses else all_of_it
        return keyset_page(
            self.engine, JobRecord, query, jobs.c.id, after, limit, "run", cursors=all_of_it, ascending=ascending
        )

    def every_run(self, project_id: str) -> list[JobRecord]:
        """Of all evals of a project."""
        mine = and_(jobs.c.project_id == project_id, jobs.c.kind == JobKind.EVAL)
        with reading(self.engine) as connection:
            return fetch_all(connection, JobRecord, select(jobs).where(mine).order_by(jobs.c.id))

    def delete_run(self, project_id: str, eval_id: str, run_id: str) -> None:
        """Raises NotFound, and Conflict while it is under way."""
        self.get(project_id, eval_id)
        query = select(jobs).where(_runs(project_id, eval_id), jobs.c.id == run_id).with_for_update()
        with writing(self.engine) as connection:
            run = _known_run(fetch_first(connection, JobRecord, query), run_id)
            _refuse_active([run])
            _remove(connection, run)


def _one(project_id: str, eval_id: str) -> ColumnElement[bool]:
    return and_(evals.c.id == eval_id, evals.c.project_id == project_id)


def _runs(project_id: str, eval_id: str) -> ColumnElement[bool]:
    of_it = jobs.c.request["eval_id"].as_string() == eval_id
    return and_(jobs.c.project_id == project_id, jobs.c.kind == JobKind.EVAL, of_it)


def _refuse_active(runs: Sequence[JobRecord]) -> None:
    active = next((run for run in runs if run.status not in FINAL_JOBS), None)
    if active is not None:
        raise Conflict(f"run {active.id} is {active.status}; cancel it first", code="run_not_finished")


def _remove(connection: Connection, run: JobRecord) -> None:
    for table in (steps, events):
        connection.execute(delete(table).where(table.c.job_id == run.id))
    connection.execute(delete(jobs).where(jobs.c.id == run.id))


def _known(record: EvalRecord | None, eval_id: str) -> EvalRecord:
    if record is None:
        raise no_eval(eval_id)
    return record


def _known_run(run: JobRecord | None, run_id: str) -> JobRecord:
    if run is None:
        raise NotFound(f"no run {run_id!r} of this eval", param="run_id", code="run_not_found")
    return run
