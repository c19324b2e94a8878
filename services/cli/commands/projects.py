"""`meteor projects ...`: who shares a system, and what each may use."""

import json
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, Data, Json, Refused, ask, client
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, page_of, show_page
from shared.platform.terminal import make_console

app = typer.Typer(help="Projects and their limits; the operator's to make.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/projects"
COLUMNS: Columns = {
    "id": lambda project: project["id"],
    "name": lambda project: project["name"],
    "limits": lambda project: _limits(project),
}


class LimitName(StrEnum):
    REQUESTS = "requests"
    JOBS = "jobs"
    USD = "usd"
    BYTES = "bytes"


FIELDS = {
    LimitName.REQUESTS: "requests_per_minute",
    LimitName.JOBS: "concurrent_jobs",
    LimitName.USD: "teacher_usd_per_day",
    LimitName.BYTES: "stored_bytes",
}
Project = Annotated[str, typer.Argument(help="an id, as `meteor projects list` shows it")]
Requests = Annotated[int | None, typer.Option(help="requests a minute, of all its keys together")]
Jobs = Annotated[int | None, typer.Option(help="jobs at once; more of them wait")]
Usd = Annotated[float | None, typer.Option(help="USD a day at strong models; jobs that would spend more pause")]
Bytes = Annotated[int | None, typer.Option("--bytes", help="of all its files")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what people tell it apart by")],
    requests: Requests = None,
    jobs: Jobs = None,
    usd: Usd = None,
    stored: Bytes = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a project and print its id. `meteor keys create NAME --project ID` lets somebody in."""
    body = {"name": name, "limits": _given(requests, jobs, usd, stored)}
    with client(data) as api:
        made = ask(api, "POST", ROUTE, json=body)
    print(json.dumps(made) if as_json else made["id"])


@app.command("list")
def list_projects(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The projects that the caller may see: the operator all, others their own."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor projects list")


@app.command()
def show(project: Project, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """One project."""
    with client(data) as api:
        _show(ask(api, "GET", f"{ROUTE}/{quote(project, safe='')}"), as_json)


@app.command()
def change(
    project: Project,
    name: Annotated[str | None, typer.Option(help="another name")] = None,
    requests: Requests = None,
    jobs: Jobs = None,
    usd: Usd = None,
    stored: Bytes = None,
    no_limit: Annotated[
        list[LimitName] | None, typer.Option("--no-limit", help="take a limit away (may be repeated)")
    ] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Set a project's name or limits. What is not named stays."""
    limits = _given(requests, jobs, usd, stored) | {FIELDS[limit]: None for limit in no_limit or []}
    body: dict[str, Any] = ({"limits": limits} if limits else {}) | ({"name": name} if name else {})
    if not body:
        raise Refused("say what to change: a limit, --no-limit or --name")
    with client(data) as api:
        _show(ask(api, "PATCH", f"{ROUTE}/{quote(project, safe='')}", json=body), as_json)


def _given(requests: int | None, jobs: int | None, usd: float | None, stored: int | None) -> dict[str, float]:
    values = zip(FIELDS.values(), (requests, jobs, usd, stored), strict=True)
    return {field: value for field, value in values if value is not None}


def _limits(project: dict[str, Any]) -> str:
    found = {name: project["limits"][field] for name, field in FIELDS.items()}
    return ", ".join(f"{name} {value:,}" for name, value in found.items() if value is not None) or "none"


def _show(project: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(project))
        return
    line = f"{project['id']}  {project['name']}  limits: {_limits(project)}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
