"""What unfinished jobs need: whatever the request of one names (`AnyRequest.names`) is not deleted before the job has ended."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, select

from shared.contracts.evals import EvalRun
from shared.contracts.exports import ExportRequest
from shared.contracts.imports import ImportJob
from shared.contracts.jobs import AnyRequest, JobRequest
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import jobs

REQUESTS: dict[str, type[AnyRequest]] = {one.kind: one for one in (JobRequest, ImportJob, ExportRequest, EvalRun)}


class Unfinished(NamedTuple):
    id: str
    request: AnyRequest

    def __str__(self) -> str:
        return self.request.called(self.id)


def unfinished(connection: Connection, project_id: str) -> Iterator[Unfinished]:
    """The project's jobs of every kind that have not ended, oldest first.

    Read after a lock on what is to be deleted: a job that names it holds a lock too until it is stored (job_moves.insert_job).
    """
    mine = (jobs.c.project_id == project_id) & jobs.c.status.not_in(FINAL_JOBS)
    for row in connection.execute(select(jobs.c.id, jobs.c.kind, jobs.c.request).where(mine).order_by(jobs.c.id)):
        yield Unfinished(row.id, REQUESTS[row.kind].model_validate(row.request))
