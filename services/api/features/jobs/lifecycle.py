"""What jobs of every kind (distillation, import, export) have in common: they are found, listed, cancelled, paused, resumed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.api.context import ProjectContext
from services.api.paging import Paging, WithId, listed
from shared.contracts.distillation import Budget
from shared.contracts.errors import NotFound
from shared.contracts.jobs import JobKind, JobStatus, budget_of
from shared.contracts.views import Listed
from shared.jobs.job_store import changed_budget
from shared.jobs.records import JobRecord
from shared.jobs.states import FINAL_JOBS

JobView = TypeVar("JobView", bound=WithId)


@dataclass(frozen=True)
class JobLifecycle(Generic[JobView]):
    """show_all: records as the API's objects, in the same order; it asks the stores once for all of them. noun: what error messages and
    paths call a job of this kind."""

    kind: JobKind
    noun: str
    show_all: Callable[[ProjectContext, Sequence[JobRecord]], list[JobView]]

    def show(self, context: ProjectContext, record: JobRecord) -> JobView:
        return self.show_all(context, [record])[0]

    def record(self, context: ProjectContext, job_id: str) -> JobRecord:
        """Raises NotFound, also for a job of another project or of another kind."""
        record = context.stores.jobs.get(job_id, context.project, self.kind)
        if record is None:
            raise NotFound(f"no {self.noun} {job_id!r}", param=f"{self.noun}_id", code=f"{self.noun}_not_found")
        return record

    def get(self, context: ProjectContext, job_id: str) -> JobView:
        return self.show(context, self.record(context, job_id))

    def page(
        self,
        context: ProjectContext,
        paging: Paging,
        status: JobStatus | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> "Listed[JobView]":
        """Newest first."""
        rows, more = context.stores.jobs.page(context.project, *paging, status, metadata, kind=self.kind)
        return listed(self.show_all(context, rows), more)

    def cancel(self, context: ProjectContext, job_id: str) -> JobView:
        """Raises Conflict on a job that has ended."""
        return self.show(context, context.stores.jobs.cancel(self.record(context, job_id)))

    def pause(self, context: ProjectContext, job_id: str) -> JobView:
        """Raises Conflict on a job that has ended or is being cancelled."""
        return self.show(context, context.stores.jobs.pause(self.record(context, job_id)))

    @staticmethod
    def change(
        context: ProjectContext, record: JobRecord, budget: Budget | None, metadata: Mapping[str, str] | None
    ) -> JobRecord:
        """budget: limits that it does not name stay as they are. The ledger has them first, so that a job that resumes is not stopped
        again, and in the end as the row has them: of two changes at once each keeps what it names. Raises Conflict on a new budget for a
        job that has ended."""
        told = None
        if budget is not None and record.status not in FINAL_JOBS:
            told = changed_budget(record, budget)
            context.ledger.set_budget(record.id, told, key_id=record.key_id)
        changed = context.stores.jobs.change(record, budget, metadata)
        while told is not None:
            now = context.stores.jobs.get(record.id) or changed
            wanted = budget_of(now.kind, now.request)
            if wanted == told:
                break
            context.ledger.set_budget(record.id, wanted, key_id=record.key_id)
            told = wanted
        return changed

    def resume(self, context: ProjectContext, job_id: str) -> JobView:
        """Raises Conflict on a job that is not paused."""
        return self.show(context, context.stores.jobs.resume(self.record(context, job_id)))


def common_fields(job: JobRecord) -> dict[str, Any]:
    """The fields that the objects of all kinds share."""
    return {
        "id": job.id,
        "created_at": int(job.created_at),
        "finished_at": int(job.finished_at) if job.finished_at else None,
        "status": job.status,
        "error": job.error,
    }
