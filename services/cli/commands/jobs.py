"""`meteor jobs ...`: the job API from a terminal."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from services.cli.attached import attached, resolved
from services.cli.client import JOBS, PAUSED_EXIT, ApiClient, JsonObject, Refused, client, elsewhere, job_body
from services.cli.commands import job_details
from services.cli.commands.report import report, usage
from services.cli.options import (
    DEFAULT_DATA,
    DEFAULT_LIMIT,
    After,
    Data,
    Job,
    JobBody,
    Json,
    Limit,
    Maps,
    Sets,
    SkipBad,
    Watch,
    given,
    pair,
    read_options,
)
from services.cli.output import Columns, emit_page, minute
from services.cli.verbs import Noun
from services.cli.watch import Follower, estimate_table, how_to_continue
from shared.contracts.errors import UserError
from shared.contracts.estimate import Estimate
from shared.contracts.experiments import merged
from shared.contracts.file_reading import ReadOptions
from shared.contracts.jobs import JobCheck, JobObject
from shared.platform import run_state
from shared.platform.terminal import console, emit, say

app = typer.Typer(help="Post, watch and control jobs, through the API.", no_args_is_help=True)
app.command()(report)
app.command()(usage)
app.add_typer(job_details.app)
CHECK_S = 60.0  # the live checks take ten seconds at most, reading many rows some more
Validation = Annotated[
    Path | None,
    typer.Option("--validation", help="a dataset of its own for the dev split; rows of --rows are not in it"),
]
COLUMNS: Columns[JobObject] = {
    "job": lambda job: job.id,
    "status": lambda job: job.status,
    "phase": lambda job: job.distillation.phase,
    "done": lambda job: f"{job.distillation.progress.percent:.0f} %",
    "model": lambda job: job.fine_tuned_model,
    "posted": lambda job: minute(job.created_at),
    "ended": lambda job: minute(job.finished_at),
}


def upload_rows(
    api: ApiClient, body: JsonObject, rows: Path | None, validation: Path | None, options: ReadOptions | None = None
) -> JsonObject:
    """The body with the ids of the uploaded files. options: how both are read."""
    files = {"training_file": rows, "validation_file": validation}
    return attached(api, body) | {
        field: api.upload(path, options=options).id for field, path in files.items() if path is not None
    }


@app.command()
def create(
    job: JobBody,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="the dataset, in any format; else the body names a file")
    ] = None,
    maps: Maps = None,
    skip_bad: SkipBad = False,
    changes: Sets = None,
    validation: Validation = None,
    follow: Watch = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="post nothing: list all that is wrong, or what was checked and what it costs"),
    ] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Post a job and print its id. With --check exit code 1 when it would be refused. `meteor data preview` shows before what
    becomes of the rows; --map and --skip-bad are the same there."""
    body, options = merged(resolved(job_body(job), job.parent), changes_of(changes)), read_options(maps, skip_bad)
    if check:
        _check(body, rows, validation, options, as_json, data)
        return
    with client(data) as api:
        created = api.ask(JobObject, "POST", JOBS.route, upload_rows(api, body, rows, validation, options))
    _told(created, follow, as_json, data)


def _told(made: JobObject, follow: bool, as_json: bool, data: Path) -> None:
    """Print a new job; follow: and what happens to it."""
    emit(made, as_json, made.id)
    if follow:
        watch(made.id, data, as_json)


def _check(
    body: JsonObject, rows: Path | None, validation: Path | None, options: ReadOptions, as_json: bool, data: Path
) -> None:
    with client(data) as api:
        checked = api.ask(
            JobCheck, "POST", JOBS.path("check"), upload_rows(api, body, rows, validation, options), timeout=CHECK_S
        )
    if as_json:
        emit(checked, True)
    else:
        for mark, style, findings in (("x", "red", checked.errors), ("!", "yellow", checked.warnings)):
            for number, problem in enumerate(findings, start=1):
                say(f"{mark} {number}. {problem.param or 'the job'}: {problem.message}", style=style)
                if problem.remedy:
                    say(f"     {problem.remedy}")
        for line in checked.checked:
            say(f"ok {line}")
        if checked.estimate is not None:
            console.print(estimate_table(checked.estimate))
        say("the job can run" if checked.ok else f"{len(checked.errors)} problems: the job would be refused")
    if not checked.ok:
        raise typer.Exit(1)


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
    pairs = [pair("--metadata", text) for text in metadata or []]
    with client(data) as api:
        page = api.page(JOBS, limit, after, status=status, **{f"metadata[{key}]": value for key, value in pairs})
    filters = [f"--status {status}"] * bool(status) + [f"--metadata {shlex.quote(text)}" for text in metadata or []]
    emit_page(page, COLUMNS, as_json, " ".join(["meteor jobs list", *filters]))


@app.command("raise")
def raise_budget(
    job: str,
    usd: Annotated[float | None, typer.Option(help="what it may spend in all, in USD")] = None,
    tokens: Annotated[int | None, typer.Option(help="input and output tokens in all")] = None,
    calls: Annotated[int | None, typer.Option(help="calls in all")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Change the budget of a job. A job that waits for its budget continues."""
    budget = given(max_usd=usd, max_tokens=tokens, max_calls=calls)
    if not budget:
        raise Refused("say how much: --usd, --tokens or --calls")
    with client(data) as api:
        changed = api.change(JOBS, api.job_id(job), {"distillation": {"budget": budget}})
    emit(changed, as_json, changed.status)


@app.command()
def fork(
    job: str,
    changes: Sets = None,
    point: Annotated[
        str | None, typer.Option("--from", help="a finished phase or round to go on from: iterate/1")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="the id of a row to leave out (may be repeated)")] = None,
    follow: Watch = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """A new job with another one's settings and changes to them. What both have in common is not done again."""
    body: JsonObject = {"changes": changes_of(changes)}
    if without:
        body["without"] = [*without]
    if point:
        body["from"] = fork_point(point)
    with client(data) as api:
        forked = api.act(JOBS, api.job_id(job), "fork", body)
    _told(forked, follow, as_json, data)


@app.command()
def resume(job: Job, follow: Watch = False, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Queue a paused job again."""
    with client(data) as api:
        resumed = api.act(JOBS, api.job_id(job), "resume")
    emit(resumed, as_json, resumed.status)
    if follow:
        watch(resumed.id, data, as_json)


def fork_point(text: str) -> JsonObject:
    """ "iterate/1" -> {"phase": "iterate", "round": 1}. Raises UserError."""
    phase, slash, number = text.partition("/")
    if slash and not (number.isascii() and number.isdecimal()):
        message = f"--from wants a phase, or a phase and the number of a round such as iterate/1, not {text!r}"
        raise UserError(message, param="from", code="invalid_value")
    point: JsonObject = {"phase": phase}
    return point | {"round": int(number)} if slash else point


def changes_of(settings: list[str] | None) -> JsonObject:
    """["a.b=1", "a.c=x"] -> {"a": {"b": 1, "c": "x"}}. Raises UserError."""
    changes: JsonObject = {}
    for setting in settings or []:
        changes = merged(changes, one_change(setting))
    return changes


def one_change(text: str) -> JsonObject:
    """ "a.b=1" -> {"a": {"b": 1}}. A value that is no JSON is a text. Raises UserError."""
    name, equals, value = text.partition("=")
    first, *path = name.split(".")
    if not equals or not first or not all(path):
        raise UserError(f"--set wants NAME=VALUE, not {text!r}", param="set", code="invalid_value")
    try:
        nested: JsonValue = json.loads(value)
    except json.JSONDecodeError:
        nested = value
    for part in reversed(path):
        nested = {part: nested}
    return {first: nested}


@app.command()
def estimate(
    job: JobBody,
    rows: Annotated[Path, typer.Option("--rows", help="the dataset, in any format")],
    maps: Maps = None,
    skip_bad: SkipBad = False,
    validation: Validation = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What a job would cost at the strong model, by the price list; nothing is asked of it."""
    with client(data) as api:
        body = upload_rows(api, resolved(job_body(job), job.parent), rows, validation, read_options(maps, skip_bad))
        estimated = api.ask(Estimate, "POST", JOBS.path("estimate"), body)
    emit(estimated, as_json, estimate_table(estimated))
    if not as_json:
        for line in estimated.assumptions:
            say(f"  {line}")


@app.command()
def watch(job: Job, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Follow a job until it ends or pauses, also over restarts of the API. --json: each event, then the job, a line each.
    Exit code 1 when it did not succeed, 3 when it is paused."""
    with client(data) as api:
        job = api.get(JOBS, api.job_id(job)).id
        follower = Follower(api, job, lambda: elsewhere() or run_state.api_url(data))
        ended = follower.emit_lines() if as_json else follower.show(console)
    if not as_json:
        say(f"{job}: {ended.status}")
        if ended.status == "paused":
            say(how_to_continue(ended))
    if ended.status != "succeeded":
        raise typer.Exit(PAUSED_EXIT if ended.status == "paused" else 1)


noun = Noun(app, "meteor jobs", JOBS, COLUMNS, "a job's id; `last` is the newest one", ApiClient.job_id)
noun.add_show("One job, coloured and indented; --json on one line.")
noun.add_act("cancel", "Stop a job; what it finished is kept.")
noun.add_act("pause", "Pause a job: within five seconds nothing of it runs. `resume` continues it.")
