"""`meteor jobs ...`: the job API from a terminal."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from services.local import report_cli, state
from services.local.progress import make_console
from services.local.remote import (
    DEFAULT_DATA,
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
from services.local.watch import Follower, how_to_go_on, show_estimate
from shared.contracts.errors import UserError
from shared.contracts.experiments import merged

app = typer.Typer(help="Post jobs, look at them and steer them, through the API.", no_args_is_help=True)
app.command()(report_cli.report)
app.command()(report_cli.usage)
console = make_console()
PAUSED_EXIT = 3
Validation = Annotated[
    Path | None,
    typer.Option("--validation", help="a dataset of its own for the dev split, JSONL; rows of --rows are not in it"),
]
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
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(help="go on behind this job")] = None,
    status: Annotated[str | None, typer.Option(help="only those in this state, such as running")] = None,
    as_json: Json = False,
) -> None:
    """The newest jobs."""
    given = {"limit": limit, "after": after, "status": status}
    with client(data) as api:
        page = ask(api, "GET", ROUTE, params={name: value for name, value in given.items() if value is not None})
    if as_json:
        print(json.dumps(page))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("job", "status", "phase", "done", "model"):
        shown.add_column(title)
    for job in page["data"]:
        own = job.get("distillation") or {}
        percent = (own.get("progress") or {}).get("percent")
        done = "" if percent is None else f"{percent:.0f} %"
        shown.add_row(job["id"], job["status"], own.get("phase") or "", done, job.get("fine_tuned_model") or "")
    console.print(shown)
    if page["has_more"]:
        console.print(f"more: meteor jobs list --after {page['last_id']}", highlight=False, soft_wrap=True)


@app.command()
def show(job: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """One job, coloured and indented; --json on one line."""
    with client(data) as api:
        found = json.dumps(ask(api, "GET", f"{ROUTE}/{the_job(api, job)}"))
    if as_json:
        print(found)
    else:
        console.print_json(found)


@app.command()
def steps(
    job: str,
    data: Data = DEFAULT_DATA,
    troubled: Annotated[bool, typer.Option("--troubled", help="only those that failed or were tried again")] = False,
    as_json: Json = False,
) -> None:
    """What a job is made of: each step, how often it was begun, and what ended its earlier attempts."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{the_job(api, job)}/steps")
    rows = [step for step in found["data"] if step["attempts"] or not troubled]
    if as_json:
        print(json.dumps(found | {"data": rows}))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("step", "state", "attempts", "what went wrong"):
        shown.add_column(title, overflow="fold")
    for step in rows:
        wrong = [f"{one['attempt']}: {one['error']['message']} ({one['worker']})" for one in step["attempts"]]
        began = "taken over" if step["reused_from"] else str(step["attempt"])
        shown.add_row(step["key"], step["state"], began, "\n".join(wrong))
    console.print(shown)


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
        follower = Follower(api, job, lambda: elsewhere() or state.api_url(data))
        found = follower.tell_lines() if as_json else follower.show(console)
    if not as_json:
        console.print(f"{job}: {found['status']}", highlight=False)
        if found["status"] == "paused":
            console.print(how_to_go_on(found), highlight=False, markup=False, soft_wrap=True)
    if found["status"] == "paused":
        raise typer.Exit(PAUSED_EXIT)
    if found["status"] != "succeeded":
        raise typer.Exit(1)
