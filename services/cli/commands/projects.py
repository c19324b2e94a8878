"""`meteor projects ...`: who shares a system, and what each may use."""

from enum import StrEnum
from typing import Annotated

import typer

from services.cli.client import JsonObject, Refused, Resource, client
from services.cli.options import DEFAULT_DATA, Data, Json, given
from services.cli.output import Columns
from services.cli.verbs import Noun
from shared.contracts.keys import ProjectObject
from shared.contracts.views import Listed
from shared.platform.terminal import emit

app = typer.Typer(help="Projects and their limits; only the operator makes them.", no_args_is_help=True)
PROJECTS = Resource("/v1/projects", ProjectObject, Listed[ProjectObject])


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


def limits_of(project: ProjectObject) -> str:
    limits = {name: getattr(project.limits, field) for name, field in FIELDS.items()}
    return ", ".join(f"{name} {value:,}" for name, value in limits.items() if value is not None) or "none"


def sentence(project: ProjectObject) -> str:
    return f"{project.id}  {project.name}  limits: {limits_of(project)}"


COLUMNS: Columns[ProjectObject] = {
    "id": lambda project: project.id,
    "name": lambda project: project.name,
    "limits": limits_of,
}


def limits_body(requests: int | None, jobs: int | None, usd: float | None, stored: int | None) -> JsonObject:
    values = zip(FIELDS.values(), (requests, jobs, usd, stored), strict=True)
    return given(**dict(values))


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="a name for people")],
    requests: Requests = None,
    jobs: Jobs = None,
    usd: Usd = None,
    stored: Bytes = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a project and print its id. `meteor keys create NAME --project ID` lets somebody in."""
    body: JsonObject = {"name": name, "limits": limits_body(requests, jobs, usd, stored)}
    with client(data) as api:
        project = api.ask(ProjectObject, "POST", PROJECTS.route, body)
    emit(project, as_json, project.id)


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
    limits = limits_body(requests, jobs, usd, stored)
    limits |= {FIELDS[limit]: None for limit in no_limit or []}
    body = given(limits=limits or None, name=name or None)
    if not body:
        raise Refused("say what to change: a limit, --no-limit or --name")
    with client(data) as api:
        changed = api.change(PROJECTS, project, body)
    emit(changed, as_json, sentence(changed))


noun = Noun(app, "meteor projects", PROJECTS, COLUMNS, "an id, as `meteor projects list` shows it")
noun.add_list("The projects that the caller may see: the operator all, others their own.")
noun.add_show("One project.", sentence)
