"""`meteor jobs events|steps|metrics|checkpoints|examples|lineage`: a look into a job."""

import json
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from services.cli.client import JOBS, Item, Resource, client
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Job, Json, Limit
from services.cli.output import Columns, emit_page, minute, one_line
from shared.contracts.data import Split
from shared.contracts.outcomes import Happened, OutcomeObject, Tried
from shared.contracts.views import (
    CheckpointObject,
    EventObject,
    ExampleObject,
    LineageObject,
    Listed,
    MetricsObject,
    StepObject,
)
from shared.platform.terminal import emit, say

app = typer.Typer()
EVENTS: Columns[EventObject] = {
    "time": lambda event: minute(event.created_at),
    "level": lambda event: event.level,
    "message": lambda event: event.message,
}
STEPS: Columns[StepObject] = {
    "step": lambda step: step.key,
    "state": lambda step: step.state,
    "attempts": lambda step: _taken_over(step) if step.reused_from else step.attempt,
    "what went wrong": lambda step: "\n".join(
        f"{attempt['attempt']}: {attempt['error']['message']} ({attempt['worker']})" for attempt in step.attempts
    ),
}
METRICS: Columns[MetricsObject] = {
    "step": lambda metrics: metrics.step,
    "state": lambda metrics: metrics.state,
    "figures": lambda metrics: ", ".join(_figure(name, value) for name, value in metrics.values.items()),
}
CHECKPOINTS: Columns[CheckpointObject] = {
    "model": lambda checkpoint: checkpoint.fine_tuned_model_checkpoint,
    "state": lambda checkpoint: checkpoint.state,
    "made": lambda checkpoint: minute(checkpoint.created_at),
    "training step": lambda checkpoint: checkpoint.step_number,
    "loss": lambda checkpoint: checkpoint.metrics.train_loss,
    "by": lambda checkpoint: checkpoint.step,
}
EXAMPLES: Columns[ExampleObject] = {
    "example": lambda example: example.id,
    "split": lambda example: example.split,
    "question": lambda example: one_line(example.question),
    "reference": lambda example: one_line(example.reference or ""),
}
OUTCOMES: Columns[OutcomeObject] = {
    "example": lambda outcome: outcome.id,
    "question": lambda outcome: one_line(outcome.question),
    "tries": lambda outcome: "\n".join(_tried(one) for one in outcome.tries),
    "dropped": lambda outcome: "\n".join(f"{one.phase}: {one.why}" for one in outcome.dropped),
    "learned by": lambda outcome: "\n".join(outcome.learned),
}


def _tried(one: Tried) -> str:
    what = f"try {one.attempt}" if one.attempt is not None else f"{one.passing} of {one.samples} samples"
    return f"round {one.round}, {what}: {'passed' if one.passed else 'failed'}"


def _taken_over(step: StepObject) -> str:
    return f"taken over from job {step.taken_over_from}" if step.taken_over_from else "taken over"


def add_part(part: str, about: str, item: type[Item], page: type[Listed[Item]], columns: Columns[Item]) -> None:
    """The command that lists one part of a job."""

    @app.command(part, help=about)
    def list_part(
        job: Job, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
    ) -> None:
        with client(data) as api:
            job = api.job_id(job)
            of_job = Resource(JOBS.path(job, part), item, page)
            emit_page(api.page(of_job, limit, after), columns, as_json, f"meteor jobs {part} {job}")


add_part(
    "events",
    "What has happened to a job, the newest first. `watch` follows it.",
    EventObject,
    Listed[EventObject],
    EVENTS,
)
add_part(
    "metrics",
    "What the steps have counted: losses and speeds of trainings, scores of measurements; the newest first.",
    MetricsObject,
    Listed[MetricsObject],
    METRICS,
)
add_part(
    "checkpoints",
    "The versions that a job has made, each of which can be asked; the newest first.",
    CheckpointObject,
    Listed[CheckpointObject],
    CHECKPOINTS,
)


@app.command()
def examples(
    job: Job,
    split: Annotated[Split | None, typer.Option(help="only this side")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """The rows of a job's file and the side of the split that each stands on."""
    with client(data) as api:
        job = api.job_id(job)
        of_job = Resource(JOBS.path(job, "examples"), ExampleObject, Listed[ExampleObject])
        page = api.page(of_job, limit, after, split=split.value if split else None)
    emit_page(page, EXAMPLES, as_json, f"meteor jobs examples {job}" + (f" --split {split.value}" if split else ""))


@app.command()
def outcomes(
    job: Job,
    happened: Annotated[Happened | None, typer.Option(help="only examples to which this happened")] = None,
    round_number: Annotated[int | None, typer.Option("--round", min=1, help="of phase 2")] = None,
    search: Annotated[str | None, typer.Option(help="a part of the id, question, reference or category")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What became of each example: its tries, what was dropped and why, and which trainings learned it."""
    given = {
        "happened": happened.value if happened else None,
        "round": str(round_number) if round_number else None,
        "search": search,
    }
    with client(data) as api:
        job = api.job_id(job)
        of_job = Resource(JOBS.path(job, "outcomes"), OutcomeObject, Listed[OutcomeObject])
        page = api.page(of_job, limit, after, **given)
    options = "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value is not None)
    emit_page(page, OUTCOMES, as_json, f"meteor jobs outcomes {job}{options}")


@app.command()
def lineage(
    job: Job,
    example: Annotated[str, typer.Argument(help="its id, as `meteor jobs examples` shows it")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """One example's way through a job: what was made of it at each step, and which versions learned from it."""
    with client(data) as api:
        path = JOBS.path(api.job_id(job), "examples", example, "lineage")
        lineage = api.ask(LineageObject, "GET", path)
    if as_json:
        emit(lineage, True)
        return
    say(lineage.example.question, style="bold")
    if lineage.example.reference:
        say(f"reference: {lineage.example.reference}")
    for link in lineage.chain:
        say(f"\n{link['step']}", style="cyan")
        for name, value in _new(link).items():
            say(f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    if not lineage.chain:
        say("it went into no finished step of this job")
    if lineage.models:
        say(f"\nlearned by {', '.join(f'{model.model} ({model.state})' for model in lineage.models)}")


def _new(link: Mapping[str, Any]) -> dict[str, object]:
    """Fields that the step added to the example. Of a training: the adapter that learned from it."""
    if "adapter" in link:
        return {"learned": link["adapter"]}
    after, before = link["made"] or {}, link["given"]
    return {name: value for name, value in after.items() if value not in (None, "", []) and value != before.get(name)}


@app.command()
def steps(
    job: Job,
    data: Data = DEFAULT_DATA,
    troubled: Annotated[bool, typer.Option("--troubled", help="only those that failed or were tried again")] = False,
    as_json: Json = False,
) -> None:
    """What a job is made of: each step, how often it was begun, and what ended its earlier attempts."""
    with client(data) as api:
        page = api.ask(Listed[StepObject], "GET", JOBS.path(api.job_id(job), "steps"))
    page.data = [step for step in page.data if step.attempts or not troubled]
    emit_page(page, STEPS, as_json, f"meteor jobs steps {job}")


def _figure(name: str, value: object) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
