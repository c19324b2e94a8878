"""Which artifacts the database still refers to, and expiring the results of old jobs."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Engine, and_, delete, func, or_, select, union_all, update

from shared.contracts.distillation import contexts
from shared.contracts.jobs import JobKind
from shared.contracts.json_types import Json
from shared.contracts.material import is_file
from shared.db.engine import reading, writing
from shared.jobs.catalog import LIVE, live_file
from shared.jobs.states import FINAL_JOBS, StepState
from shared.jobs.tables import aliases, audit, canaries, files, jobs, models, steps, workers

PRODUCING = ("train.sft", "train.prefer", "train.merge", "train.gguf")  # steps whose results name folders


@dataclass
class Needed:
    """Content hashes. contents: of JSON artifacts. trained: of adapters and whole models. results: of step results that name
    further folders."""

    contents: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)


def _past(cutoff: float) -> ColumnElement[bool]:
    """Jobs that ended before the cutoff and published no version that an alias serves or tries."""
    in_use = union_all(select(aliases.c.model_id), select(canaries.c.model_id))
    serving = select(models.c.job_id).where(models.c.id.in_(in_use), models.c.job_id.is_not(None))
    ended = func.coalesce(jobs.c.finished_at, jobs.c.created_at)
    return and_(jobs.c.status.in_(FINAL_JOBS), ended < cutoff, jobs.c.id.not_in(serving))


def _wanted(cutoff: float) -> ColumnElement[bool]:
    """Versions whose weights are needed: live ones, those that an unfinished job may compare with (it was posted before the
    deletion), and those of exports whose files are kept."""
    before = (jobs.c.project_id == models.c.project_id) & (jobs.c.created_at <= models.c.deleted_at)
    live = select(jobs.c.id).where(before, jobs.c.status.not_in(FINAL_JOBS))
    of_it = (jobs.c.kind == JobKind.EXPORT) & (jobs.c.request["model_id"].as_string() == models.c.id)
    exported = select(jobs.c.id).where(of_it, ~_past(cutoff))
    return or_(LIVE, live.exists(), exported.exists())


def _material(request: Json) -> Iterator[str]:
    """Content hashes of the texts that a job's body itself has for its teacher."""
    given = request.get("distillation", {}).get("teacher", {}).get("context")
    for text in contexts(given):
        if not is_file(text):
            yield hashlib.sha256(text.encode()).hexdigest()


class RetentionStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def expire_results(self, cutoff: float) -> int:
        """Remove the result references of jobs that ended before the cutoff, so that no job reuses them. Returns how many
        steps lost theirs. A job that has just reused a result keeps its own reference."""
        past = select(jobs.c.id).where(_past(cutoff))
        statement = (
            update(steps).where(steps.c.job_id.in_(past), steps.c.result_ref.is_not(None)).values(result_ref=None)
        )
        with writing(self.engine) as connection:
            return connection.execute(statement).rowcount

    def count_expired(self, cutoff: float) -> int:
        """How many steps `expire_results` would change."""
        kept = steps.c.result_ref.is_not(None) & _past(cutoff)
        query = select(func.count()).select_from(steps).join(jobs, jobs.c.id == steps.c.job_id).where(kept)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar_one()

    def needed(self, cutoff: float) -> Needed:
        """What unfinished and recent jobs, live files, reports and versions refer to."""
        needed = Needed()
        kept = steps.c.job_id.in_(select(jobs.c.id).where(~_past(cutoff)))
        of_files = or_(
            live_file(),
            files.c.id.in_(select(jobs.c.file_id).where(~_past(cutoff))),
            files.c.id.in_(select(jobs.c.request["validation_file"].as_string()).where(~_past(cutoff))),
        )  # unfinished jobs still read the rows of a deleted file
        with reading(self.engine) as connection:
            for query in (
                select(steps.c.input_hash).where(kept).distinct(),
                select(steps.c.result_ref).where(kept, steps.c.result_ref.is_not(None)).distinct(),
                select(files.c.rows_ref).where(of_files, files.c.rows_ref.is_not(None)),
                select(files.c.columns_ref).where(of_files, files.c.columns_ref.is_not(None)),
                select(files.c.sha256).where(live_file()),  # databases of graders, and material: copied as they are
                select(jobs.c.report_ref).where(jobs.c.report_ref.is_not(None)),
            ):
                needed.contents.update(connection.execute(query).scalars())
            unfinished = select(jobs.c.request).where(
                jobs.c.status.not_in(FINAL_JOBS), jobs.c.kind == JobKind.DISTILLATION
            )
            for request in connection.execute(unfinished).scalars():
                needed.contents.update(_material(request))
            needed.trained.update(connection.execute(select(models.c.adapter).where(_wanted(cutoff))).scalars())
            trainings = kept & steps.c.kind.in_(PRODUCING) & (steps.c.state == StepState.SUCCEEDED)
            results = select(steps.c.result_ref).where(trainings, steps.c.result_ref.is_not(None)).distinct()
            needed.results.update(connection.execute(results).scalars())
        return needed

    def forget_audit(self, cutoff: float, dry_run: bool = False) -> int:
        """Remove (dry_run: count) audit entries from before the cutoff; returns how many. Ids begin with milliseconds."""
        old = audit.c.id < f"audit-{max(int(cutoff * 1000), 0):012x}"
        if dry_run:
            with reading(self.engine) as connection:
                return connection.execute(select(func.count()).select_from(audit).where(old)).scalar_one()
        with writing(self.engine) as connection:
            return connection.execute(delete(audit).where(old)).rowcount

    def forget_workers(self, silent_s: float) -> None:
        """Remove processes whose last heartbeat is older."""
        with writing(self.engine) as connection:
            connection.execute(delete(workers).where(workers.c.seen_at < time.time() - silent_s))
