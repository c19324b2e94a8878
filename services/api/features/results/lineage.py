"""One example's way through a job: question, guideline, teacher's answer, attempts, verdicts, pair, and what learned of it.

`adapter` is the content hash of what was trained, also where that is a whole model (method full).
Nothing is written down for it: the chain is read from the steps' own inputs and results, so it cannot disagree with them.
"""

from functools import partial
from typing import Any

from services.api.context import ApiContext
from services.api.features.jobs import service as jobs
from shared.contracts.errors import NotFound
from shared.contracts.step_kinds import learns
from shared.contracts.steps import ModelRef, Queue, StepRequest, StepResult
from shared.datasets.files import data_of
from shared.jobs.records import StepRecord
from shared.jobs.states import StepState


def lineage(context: ApiContext, project: str, job_id: str, example_id: str) -> dict[str, Any]:
    """Every finished step that the example went into, in time. Raises NotFound for an example of no step of the job."""
    job = jobs.row(context, project, job_id)
    data = data_of(job, partial(context.stores.catalog.file, project))
    question = next((row for row in data.rows(context.artifacts) if row.id == example_id), None)
    if question is None:
        raise NotFound(f"no example {example_id!r} in the job's file", param="example_id", code="example_not_found")
    done = [step for step in context.stores.steps.of_job(job_id) if step.state == StepState.SUCCEEDED]
    links = [
        link for step in sorted(done, key=lambda s: (s.finished_at, s.id)) if (link := _link(context, step, example_id))
    ]
    trained = {link["adapter"] for link in links if link.get("adapter") and learns(link["kind"])}
    versions = [
        {
            "model": f"{row.alias}@{row.version}",
            "adapter": row.adapter,
            "method": row.method,
            "state": row.state,
            "served": served,
        }
        for row, served in context.stores.catalog.models(project)
        if row.adapter in trained
    ]
    return {
        "object": "distillation.lineage",
        "job_id": job_id,
        "example": question.model_dump(mode="json"),
        "chain": links,
        "adapters": sorted(trained),
        "models": versions,
    }


def _link(context: ApiContext, step: StepRecord, example_id: str) -> dict[str, Any] | None:
    """What went into the step for this example and what came out; None when it was not part of it.

    Raises NotFound where the step's results were let go of."""
    if step.result_ref is None:
        message = "the job ended so long ago that its steps' results are not kept any more (METEOR_RETENTION)"
        raise NotFound(message, param="job_id", code="lineage_expired")
    request = StepRequest.model_validate(context.artifacts.get_json(step.input_hash))
    given = next((row for row in request.rows if row["id"] == example_id), None)
    if given is None:
        return None
    result = StepResult.model_validate(context.artifacts.get_json(step.result_ref))
    model = request.params.get("model")
    link: dict[str, Any] = {"step": step.key, "kind": step.kind, "finished_at": step.finished_at, "given": given}
    if Queue(step.queue) in (Queue.WEAK, Queue.TRAIN):
        link["student"] = (ModelRef.model_validate(model).tuned if model else None) or "base"
    if learns(step.kind):
        return link | {"adapter": result.trained}
    return link | {"made": next((row for row in result.rows if row["id"] == example_id), None)}
