"""`meteor jobs events|steps|metrics|checkpoints|examples|lineage`: a look into a job."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, ROUTE, Data, Json, ask, client, the_job
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, minute, one_line, page_of, show_page
from shared.contracts.data import Split
from shared.platform.terminal import make_console

app = typer.Typer()
console = make_console()
Job = Annotated[str, typer.Argument(help="a job's id; `last` is the newest one")]
EVENTS: Columns = {
    "time": lambda event: minute(event["created_at"]),
    "level": lambda event: event["level"],
    "message": lambda event: event["message"],
}
STEPS: Columns = {
    "step": lambda step: step["key"],
    "state": lambda step: step["state"],
    "attempts": lambda step: "taken over" if step["reused_from"] else step["attempt"],
    "what went wrong": lambda step: _troubles(step),
}
METRICS: Columns = {
    "step": lambda metrics: metrics["step"],
    "state": lambda metrics: metrics["state"],
    "figures": lambda metrics: ", ".join(_figure(name, value) for name, value in metrics["values"].items()),
}
CHECKPOINTS: Columns = {
    "model": lambda checkpoint: checkpoint["fine_tuned_model_checkpoint"],
    "state": lambda checkpoint: checkpoint["state"],
    "made": lambda checkpoint: minute(checkpoint["created_at"]),
    "training step": lambda checkpoint: checkpoint["step_number"],
    "loss": lambda checkpoint: checkpoint["metrics"]["train_loss"],
    "by": lambda checkpoint: checkpoint["step"],
}
EXAMPLES: Columns = {
    "example": lambda example: example["id"],
    "split": lambda example: example["split"],
    "question": lambda example: one_line(example["question"]),
    "reference": lambda example: one_line(example["reference"] or ""),
}


def _page(
    part: str,
    job: str,
    columns: Columns,
    given: tuple[int, str | None],
    as_json: bool,
    data: Path,
    **filters: str | None,
) -> None:
    with client(data) as api:
        job = the_job(api, job)
        page = page_of(api, f"{ROUTE}/{job}/{part}", *given, **filters)
    more = "".join(f" --{name} {value}" for name, value in filters.items() if value)
    show_page(console, page, columns, as_json, f"meteor jobs {part} {job}{more}")


@app.command()
def events(
    job: Job, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """What has happened to a job, the newest first. `watch` follows it."""
    _page("events", job, EVENTS, (limit, after), as_json, data)


@app.command()
def metrics(
    job: Job, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """What the steps have counted: losses and speeds of trainings, scores of measurements; the newest first."""
    _page("metrics", job, METRICS, (limit, after), as_json, data)


@app.command()
def checkpoints(
    job: Job, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The versions that a job has made, each of which can be asked; the newest first."""
    _page("checkpoints", job, CHECKPOINTS, (limit, after), as_json, data)


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
    _page("examples", job, EXAMPLES, (limit, after), as_json, data, split=split.value if split else None)


@app.command()
def lineage(
    job: Job,
    example: Annotated[str, typer.Argument(help="its id, as `meteor jobs examples` shows it")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """One example's way through a job: what was made of it at each step, and which versions learned from it."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{the_job(api, job)}/examples/{quote(example, safe='')}/lineage")
    if as_json:
        print(json.dumps(found))
        return
    _say(found["example"]["question"], style="bold")
    if found["example"].get("reference"):
        _say(f"reference: {found['example']['reference']}")
    for link in found["chain"]:
        _say(f"\n{link['step']}", style="cyan")
        for name, value in _new(link).items():
            _say(f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    if not found["chain"]:
        _say("it went into no finished step of this job")
    if found["models"]:
        learned = ", ".join(f"{model['model']} ({model['state']})" for model in found["models"])
        _say(f"\nlearned by {learned}")


def _new(link: dict[str, Any]) -> dict[str, Any]:
    """What the step made of the example: fields that it did not have before. Of a training, that it learned from it."""
    if "adapter" in link:
        return {"learned": link["adapter"]}
    made, given = link["made"] or {}, link["given"]
    return {name: value for name, value in made.items() if value not in (None, "", []) and value != given.get(name)}


def _say(text: str, style: str | None = None) -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@app.command()
def steps(
    job: Job,
    data: Data = DEFAULT_DATA,
    troubled: Annotated[bool, typer.Option("--troubled", help="only those that failed or were tried again")] = False,
    as_json: Json = False,
) -> None:
    """What a job is made of: each step, how often it was begun, and what ended its earlier attempts."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{the_job(api, job)}/steps")
    rows = [step for step in found["data"] if step["attempts"] or not troubled]
    show_page(console, found | {"data": rows}, STEPS, as_json, f"meteor jobs steps {job}")


def _troubles(step: dict[str, Any]) -> str:
    return "\n".join(f"{one['attempt']}: {one['error']['message']} ({one['worker']})" for one in step["attempts"])


def _figure(name: str, value: Any) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
