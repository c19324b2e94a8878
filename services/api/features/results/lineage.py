"""One example's way through a job: prompt, guideline, teacher response, student completions, verdicts, pair, and the versions
trained on it.

`adapter` is the content hash of the checkpoint, also for a whole model (method full). The chain is read from the steps' own inputs
and results, so it cannot disagree with them.
"""

from collections.abc import Iterator
from typing import Any

from services.api.context import ProjectContext
from services.api.features.jobs import service as jobs
from services.api.features.results.step_files import finished, given_to, made_by
from shared.contracts.errors import NotFound
from shared.contracts.step_kinds import learns
from shared.contracts.steps import ModelRef, Queue
from shared.contracts.views import LineageModel, LineageObject
from shared.datasets.files import data_of
from shared.jobs.records import StepRecord

Link = dict[str, Any]  # what went into a step and what came out, in the step's own JSON


def lineage(context: ProjectContext, job_id: str, example_id: str) -> LineageObject:
    """Every finished step that the example went into, in time. Raises NotFound for an example that is not in the job's files."""
    job = jobs.lifecycle.record(context, job_id)
    rows = context.job_rows(data_of(job, context.file))
    place = rows.find(example_id)
    if place is None:
        raise NotFound(f"no example {example_id!r} in the job's file", param="example_id", code="example_not_found")
    chain = [link for step in finished(context, job_id) for link in _links(context, step, example_id)]
    checkpoints = {link["adapter"] for link in chain if link.get("adapter") and learns(link["kind"])}
    return LineageObject(
        job_id=job_id,
        example=next(rows.read([place])),
        chain=chain,
        adapters=sorted(checkpoints),
        models=[
            LineageModel(
                model=f"{row.alias}@{row.version}",
                adapter=row.adapter,
                method=row.method,
                state=row.state,
                served=served,
            )
            for row, served in context.stores.catalog.models(context.project)
            if row.adapter in checkpoints
        ],
    )


def _links(context: ProjectContext, step: StepRecord, example_id: str) -> Iterator[Link]:
    """The example's rows in the step's input (several samples are several rows), each with its result; none if the example was not
    part of the step.

    Raises NotFound if the step's result has expired."""
    request = given_to(context, step)
    given = [place for place, row in enumerate(request.rows) if row["id"] == example_id]
    if not given:
        return
    result = made_by(context, step)
    model = request.params.get("model")
    for place in given:
        link: Link = {
            "step": step.key,
            "kind": step.kind,
            "finished_at": step.finished_at,
            "given": request.rows[place],
        }
        if Queue(step.queue) in (Queue.WEAK, Queue.TRAIN):
            link["student"] = (ModelRef.model_validate(model).tuned if model else None) or "base"
        if learns(step.kind):
            yield link | {"adapter": result.trained}
        elif len(result.rows) == len(request.rows):
            yield link | {"made": result.rows[place]}
        else:  # some rows have no result
            yield link | {"made": next((row for row in result.rows if row["id"] == example_id), None)}
