"""`meteor jobs ...`: the job API from a terminal."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from services.local import state
from services.local.progress import make_console
from services.local.report_screen import as_markdown, show_report
from services.local.watch import watch_job
from shared.contracts.errors import UserError

app = typer.Typer(help="Look at jobs and steer them, through the API.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/distillation/jobs"
Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder of the run")]


class Refused(UserError):
    code = "refused"


def client(data: Path) -> httpx.Client:
    """METEOR_API_URL names another API than the one that runs on the data folder; METEOR_API_KEY is its key."""
    url = os.environ.get("METEOR_API_URL") or state.api_url(data)
    key = api_key()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(30, read=60))


def api_key() -> str:
    """METEOR_API_KEY, else the first of the keys that a local api was given; empty when it asks for none."""
    return os.environ.get("METEOR_API_KEY") or os.environ.get("METEOR_API_KEYS", "").partition(",")[0].strip()


def ask(api: httpx.Client, method: str, path: str, **body: Any) -> Any:
    """body: as httpx takes it (json, files, data). Raises Refused with the API's own words."""
    try:
        answer = api.request(method, path, **body)
    except httpx.HTTPError as error:
        raise Refused(f"{api.base_url} does not answer: {error}") from error
    if answer.is_error:
        raise Refused(_words(answer))
    return answer.json()


def _words(answer: httpx.Response) -> str:
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"


@app.command("list")
def list_jobs(data: Data = Path(".meteor"), limit: int = 20) -> None:
    """The newest jobs."""
    with client(data) as api:
        page = ask(api, "GET", f"{ROUTE}?limit={limit}")
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("job", "status", "phase", "done", "model"):
        shown.add_column(title)
    for job in page["data"]:
        own = job.get("distillation") or {}
        percent = (own.get("progress") or {}).get("percent")
        done = "" if percent is None else f"{percent:.0f} %"
        shown.add_row(job["id"], job["status"], own.get("phase") or "", done, job.get("fine_tuned_model") or "")
    console.print(shown)


@app.command()
def show(job: str, data: Data = Path(".meteor")) -> None:
    """One job as JSON."""
    with client(data) as api:
        console.print_json(json.dumps(ask(api, "GET", f"{ROUTE}/{job}")))


@app.command()
def report(
    job: Annotated[str, typer.Argument(help="a job's id; `last` is the newest one")] = "last",
    data: Data = Path(".meteor"),
    markdown: Annotated[bool, typer.Option("--markdown", help="the tables as Markdown, for documents")] = False,
) -> None:
    """What a finished job gained, against what, and what it cost."""
    with client(data) as api:
        if job == "last":
            page = ask(api, "GET", f"{ROUTE}?limit=1")
            if not page["data"]:
                raise Refused("there is no job yet")
            job = page["data"][0]["id"]
        found = ask(api, "GET", f"{ROUTE}/{job}/report")
    if markdown:
        print(as_markdown(found))
    else:
        show_report(console, found)


@app.command()
def cancel(job: str, data: Data = Path(".meteor")) -> None:
    """Stop a job; what it finished is kept."""
    with client(data) as api:
        console.print(ask(api, "POST", f"{ROUTE}/{job}/cancel")["status"])


@app.command()
def watch(job: str, data: Data = Path(".meteor")) -> None:
    """Follow a job until it ends. Exit code 1 when it did not succeed."""
    with client(data) as api:
        ask(api, "GET", f"{ROUTE}/{job}")
        status = watch_job(console, api, job)["status"]
    console.print(f"{job}: {status}", highlight=False)
    if status != "succeeded":
        raise typer.Exit(1)
