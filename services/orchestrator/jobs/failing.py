"""The end of a failed job: the cause, and what remains usable."""

import asyncio

from services.orchestrator.method.run import DistillationRun
from services.orchestrator.runtime.run import DurableRun
from services.orchestrator.runtime.steps import StepFailed
from shared.contracts.errors import MeteorError, as_body
from shared.contracts.jobs import Failure, JobKind, JobStatus, Usable
from shared.jobs.records import JobRecord
from shared.jobs.schema import Stores
from shared.jobs.states import StepState
from shared.platform.log import get_logger

log = get_logger(__name__)
PARTIAL = "partial"  # the state of a version that a failed job leaves: no dev split has compared it with what is served


async def fail(stores: Stores, row: JobRecord, error: BaseException, run: DurableRun | None) -> None:
    """End the job as failed; the student of a distillation's last finished phase gets a version, so that it can be asked.

    run: None where the job could not even be begun.
    """
    body = as_body(error)
    log.error("job failed", job=row.id, error=body.message, exc_info=None if isinstance(error, MeteorError) else error)
    distillation = run if isinstance(run, DistillationRun) else None
    models = await _kept(distillation) if distillation is not None else []
    failure = await asyncio.to_thread(_failure, stores, row, error, distillation, models)
    if await asyncio.to_thread(
        stores.jobs.end,
        row,
        JobStatus.FAILED,
        body,
        status_reason=sentence(failure, row.kind),
        failure=failure.model_dump(),
    ):
        await asyncio.to_thread(stores.steps.cancel_of_job, row.id)


async def _kept(run: DistillationRun) -> list[str]:
    """A version of the last student that a phase was finished with."""
    if not run.finished:
        return []
    return [(await run.publish(list(run.finished.values())[-1], PARTIAL)).model]


def _failure(
    stores: Stores, row: JobRecord, error: BaseException, run: DistillationRun | None, models: list[str]
) -> Failure:
    steps = stores.steps.of_job(row.id)
    job = stores.jobs.get(row.id)
    key = error.key if isinstance(error, StepFailed) else None
    failed = next((step for step in steps if step.key == key), None)
    return Failure(
        phase=job.phase if job is not None else None,
        step=key,
        attempts=len(failed.attempts) if failed is not None else 0,
        cause=failed.error if failed is not None and failed.error else as_body(error),
        usable=Usable(
            models=models,
            phases=list(run.finished) if run is not None else [],
            steps_done=sum(step.state == StepState.SUCCEEDED for step in steps),
        ),
    )


def sentence(failure: Failure, kind: str) -> str:
    where = f"failed in phase {failure.phase}" if failure.phase else "failed"
    if failure.step:
        tries = f" after {failure.attempts} attempts" if failure.attempts > 1 else ""
        where += f" at step {failure.step}{tries}"
    usable = failure.usable
    left = [f"{name} can be asked (phase {usable.phases[-1]})" for name in usable.models]
    if usable.steps_done:
        fork = "a fork or " if kind == JobKind.DISTILLATION else ""
        left.append(f"{usable.steps_done} finished steps are taken over by {fork}the same job posted again")
    return f"{where}: {failure.cause.message}" + (f"; {', and '.join(left)}" if left else "")
