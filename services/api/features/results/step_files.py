"""What a finished step was given and what it made, from its own files."""

from services.api.context import ProjectContext
from shared.contracts.errors import NotFound
from shared.contracts.steps import StepRequest, StepResult
from shared.jobs.records import StepRecord
from shared.jobs.states import StepState


def finished(context: ProjectContext, job_id: str) -> list[StepRecord]:
    """The job's finished steps, in time."""
    steps = [step for step in context.stores.steps.of_job(job_id) if step.state == StepState.SUCCEEDED]
    return sorted(steps, key=lambda step: (step.finished_at, step.id))


def given_to(context: ProjectContext, step: StepRecord) -> StepRequest:
    """Raises NotFound if the step's result has expired."""
    if step.result_ref is None:
        message = "the job ended so long ago that the results of its steps have expired (METEOR_RETENTION)"
        raise NotFound(message, param="job_id", code="lineage_expired")
    return StepRequest.model_validate(context.artifacts.get_json(step.input_hash))


def made_by(context: ProjectContext, step: StepRecord) -> StepResult:
    return StepResult.model_validate(context.artifacts.get_json(step.result_ref))
