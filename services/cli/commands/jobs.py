"""`meteor jobs ...`: the job API from a terminal."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.client import (
    DEFAULT_DATA,
    PAUSED_EXIT,
    ROUTE,
    Data,
    Json,
    Refused,
    ask,
    body_of,
    client,
    elsewhere,
    the_job,
    upload,
)
from services.cli.commands import job_details
from services.cli.commands import report as report_command
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, page_of, show_page
from services.cli.watch import Follower, how_to_go_on, show_estimate
from shared.contracts.errors import UserError
from shared.contracts.experiments import merged
from shared.platform import run_state
from shared.platform.terminal import make_console

app = typer.Typer(help="Post jobs, look at them and steer them, through the API.", no_args_is_help=True)
app.command()(report_command.report)
app.command()(report_command.usage)
app.add_typer(job_details.app)
console = make_console()
Validation = Annotated[
    Path | None,
    typer.Option("--validation", help="a dataset of its own for the dev split, JSONL; rows of --rows are not in it"),
]
COLUMNS: Columns = {
    "job": lambda job: job["id"],
    "status": lambda job: job["status"],
    "phase": lambda job: (job["distillation"] or {}).get("phase"),
    "done": lambda job: _done(job),
    "model": lambda job: job["fine_tuned_model"],
}
Body = Annotated[Path, typer.Argument(help="a job's body as JSON, such as examples/shell.job.json")]


@app.command()
def create(
    job: Body,
    rows: Annotated[Path | None, typer.Option("--rows", help="the dataset, JSONL; else the body names a file")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, such as distillation.iterate.rounds=3")
    ] = None,
    validation: Validation = None,
    follow: Annotated[bool, typer.Option("--watch", help="follow it to its end, as `watch` does")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Post a job and print its id."""
    body = body_of(job)
    for change in changes or []:
        body = merged(body, one_change(change))
    with client(data) as api:
        if rows is not None:
            body["training_file"] = upload(api, rows)["id"]
        if validation is not None:
            body["validation_file"] = upload(api, validation)["id"]
        made = ask(api, "POST", ROUTE, json=body)
    print(json.dumps(made) if as_json else made["id"], flush=True)
    if follow:
        watch(made["id"], data, as_json)


@app.command("list")
def list_jobs(
    data: Data = DEFAULT_DATA,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    status: Annotated[str | None, typer.Option(help="only those in this state, such as running")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="only those with KEY=VALUE (may be repeated)")
    ] = None,
    as_json: Json = False,
) -> None:
    """The newest jobs."""
    pairs = [_pair(text) for text in metadata or []]
    wanted = {f"metadata[{key}]": value for key, value in pairs}
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after, status=status, **wanted)
    filters = [f"--status {status}"] * bool(status) + [f"--metadata {shlex.quote(text)}" for text in metadata or []]
    show_page(console, page, COLUMNS, as_json, " ".join(["meteor jobs list", *filters]))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"--metadata wants KEY=VALUE, not {text!r}")
    return key, value


def _done(job: dict[str, Any]) -> str | None:
    percent = ((job["distillation"] or {}).get("progress") or {}).get("percent")
    return None if percent is None else f"{percent:.0f} %"


@app.command()
def show(job: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """One job, coloured and indented; --json on one line."""
    with client(data) as api:
        found = json.dumps(ask(api, "GET", f"{ROUTE}/{the_job(api, job)}"))
    if as_json:
        print(found)
    else:
        console.print_json(found)


def _moved(job: str, data: Path, move: str, as_json: bool) -> None:
    with client(data) as api:
        found = ask(api, "POST", f"{ROUTE}/{the_job(api, job)}/{move}")
    print(json.dumps(found) if as_json else found["status"])


@app.command()
def cancel(job: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Stop a job; what it finished is kept."""
    _moved(job, data, "cancel", as_json)


@app.command()
def pause(job: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Let a job rest: within five seconds nothing of it runs. `resume` goes on where it was."""
    _moved(job, data, "pause", as_json)


@app.command()
def resume(job: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Queue a paused job again."""
    _moved(job, data, "resume", as_json)


@app.command("raise")
def raise_budget(
    job: str,
    usd: Annotated[float | None, typer.Option(help="what it may spend in all, in USD")] = None,
    tokens: Annotated[int | None, typer.Option(help="input and output tokens in all")] = None,
    calls: Annotated[int | None, typer.Option(help="calls in all")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give a job another budget. One that waits for its budget goes on."""
    budget = {"max_usd": usd, "max_tokens": tokens, "max_calls": calls}
    given = {name: limit for name, limit in budget.items() if limit is not None}
    if not given:
        raise Refused("say how much: --usd, --tokens or --calls")
    with client(data) as api:
        found = ask(api, "PATCH", f"{ROUTE}/{the_job(api, job)}", json={"distillation": {"budget": given}})
    print(json.dumps(found) if as_json else found["status"])


@app.command()
def fork(
    job: str,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, such as distillation.iterate.rounds=3")
    ] = None,
    point: Annotated[
        str | None, typer.Option("--from", help="a finished phase or round to go on from: iterate/1")
    ] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """A new job with another one's settings and changes to them. What both have in common is not done again."""
    body: dict[str, Any] = {"changes": {}}
    for change in changes or []:
        body["changes"] = merged(body["changes"], one_change(change))
    if point:
        phase, _, number = point.partition("/")
        body["from"] = {"phase": phase} | ({"round": number} if number else {})
    with client(data) as api:
        found = ask(api, "POST", f"{ROUTE}/{the_job(api, job)}/fork", json=body)
    print(json.dumps(found) if as_json else found["id"])


def one_change(text: str) -> dict[str, Any]:
    """ "a.b=1" -> {"a": {"b": 1}}. A value that is no JSON is a text. Raises UserError."""
    name, is_there, value = text.partition("=")
    if not is_there or not all(name.split(".")):
        raise UserError(f"--set wants NAME=VALUE, not {text!r}", param="set", code="invalid_value")
    try:
        found: Any = json.loads(value)
    except json.JSONDecodeError:
        found = value
    for part in reversed(name.split(".")):
        found = {part: found}
    return found


@app.command()
def estimate(
    job: Body,
    rows: Annotated[Path, typer.Option("--rows", help="the dataset, JSONL")],
    validation: Validation = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What a job would cost at the strong model, by the price list; nothing is asked of it."""
    with client(data) as api:
        body = body_of(job) | {"training_file": upload(api, rows)["id"]}
        if validation is not None:
            body["validation_file"] = upload(api, validation)["id"]
        found = ask(api, "POST", f"{ROUTE}/estimate", json=body)
    if as_json:
        print(json.dumps(found))
    else:
        show_estimate(console, found)


@app.command()
def watch(job: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Follow a job until it ends or pauses, also over restarts of the API. --json: each event, then the job, a line each.
    Exit code 1 when it did not succeed, 3 when it is paused."""
    with client(data) as api:
        job = the_job(api, job)
        ask(api, "GET", f"{ROUTE}/{job}")
        follower = Follower(api, job, lambda: elsewhere() or run_state.api_url(data))
        found = follower.tell_lines() if as_json else follower.show(console)
    if not as_json:
        console.print(f"{job}: {found['status']}", highlight=False)
        if found["status"] == "paused":
            console.print(how_to_go_on(found), highlight=False, markup=False, soft_wrap=True)
    if found["status"] == "paused":
        raise typer.Exit(PAUSED_EXIT)
    if found["status"] != "succeeded":
        raise typer.Exit(1)
