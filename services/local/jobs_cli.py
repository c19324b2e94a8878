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
from services.local.report_markdown import as_markdown
from services.local.report_screen import show_report
from services.local.watch import how_to_go_on, show_estimate, watch_job
from shared.contracts.errors import UserError
from shared.contracts.experiments import merged

app = typer.Typer(help="Look at jobs and steer them, through the API.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/distillation/jobs"
PAUSED_EXIT = 3
DEFAULT_DATA = Path(".meteor")
Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder of the run")]


class Refused(UserError):
    code = "refused"


def client(data: Path) -> httpx.Client:
    """METEOR_API_URL names another API than the one that runs on the data folder; METEOR_API_KEY is its key."""
    elsewhere = os.environ.get("METEOR_API_URL")
    url, key = elsewhere or state.api_url(data), api_key(None if elsewhere else data)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(30, read=60))


def api_key(data: Path | None) -> str:
    """METEOR_API_KEY, else the first of the keys that a local api was given, else the internal token of the data folder.

    data: of the API that is asked; None for one elsewhere, which must never be shown the token. Empty: nothing was found.
    """
    given = os.environ.get("METEOR_API_KEY") or os.environ.get("METEOR_API_KEYS", "").partition(",")[0].strip()
    if given or data is None:
        return given
    token = state.token_path(data)
    return os.environ.get("METEOR_INTERNAL_TOKEN") or (token.read_text().strip() if os.access(token, os.R_OK) else "")


def ask(api: httpx.Client, method: str, path: str, **body: Any) -> Any:
    """body: as httpx takes it (json, files, data). Raises Refused with the API's own words."""
    try:
        answer = api.request(method, path, **body)
    except httpx.HTTPError as error:
        raise Refused(f"{api.base_url} does not answer: {error}") from error
    if answer.is_error:
        raise Refused(words(answer))
    return answer.json()


def words(answer: httpx.Response) -> str:
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
def steps(
    job: str,
    data: Data = Path(".meteor"),
    troubled: Annotated[bool, typer.Option("--troubled", help="only those that failed or were tried again")] = False,
) -> None:
    """What a job is made of: each step, how often it was begun, and what ended its earlier attempts."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{job}/steps")["data"]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("step", "state", "attempts", "what went wrong"):
        shown.add_column(title, overflow="fold")
    for step in found:
        wrong = [f"{one['attempt']}: {one['error']['message']} ({one['worker']})" for one in step["attempts"]]
        if troubled and not wrong:
            continue
        began = "taken over" if step["reused_from"] else str(step["attempt"])
        shown.add_row(step["key"], step["state"], began, "\n".join(wrong))
    console.print(shown)


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
def pause(job: str, data: Data = Path(".meteor")) -> None:
    """Let a job rest: within five seconds nothing of it runs. `resume` goes on where it was."""
    with client(data) as api:
        console.print(ask(api, "POST", f"{ROUTE}/{job}/pause")["status"])


@app.command()
def resume(job: str, data: Data = Path(".meteor")) -> None:
    """Queue a paused job again."""
    with client(data) as api:
        console.print(ask(api, "POST", f"{ROUTE}/{job}/resume")["status"])


@app.command("raise")
def raise_budget(
    job: str,
    usd: Annotated[float | None, typer.Option(help="what it may spend in all, in USD")] = None,
    tokens: Annotated[int | None, typer.Option(help="input and output tokens in all")] = None,
    calls: Annotated[int | None, typer.Option(help="calls in all")] = None,
    data: Data = Path(".meteor"),
) -> None:
    """Give a job another budget. One that waits for its budget goes on."""
    budget = {"max_usd": usd, "max_tokens": tokens, "max_calls": calls}
    given = {name: limit for name, limit in budget.items() if limit is not None}
    if not given:
        raise Refused("say how much: --usd, --tokens or --calls")
    with client(data) as api:
        console.print(ask(api, "PATCH", f"{ROUTE}/{job}", json={"distillation": {"budget": given}})["status"])


@app.command()
def fork(
    job: str,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, such as distillation.iterate.rounds=3")
    ] = None,
    point: Annotated[
        str | None, typer.Option("--from", help="a finished phase or round to go on from: iterate/1")
    ] = None,
    data: Data = Path(".meteor"),
) -> None:
    """A new job with another one's settings and changes to them. What both have in common is not done again."""
    body: dict[str, Any] = {"changes": {}}
    for change in changes or []:
        body["changes"] = merged(body["changes"], one_change(change))
    if point:
        phase, _, number = point.partition("/")
        body["from"] = {"phase": phase} | ({"round": number} if number else {})
    with client(data) as api:
        console.print(ask(api, "POST", f"{ROUTE}/{job}/fork", json=body)["id"], highlight=False)


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
    job: Annotated[Path, typer.Argument(help="a job's body as JSON, such as examples/shell.job.json")],
    rows: Annotated[Path, typer.Option("--rows", help="the dataset, JSONL")],
    data: Data = Path(".meteor"),
) -> None:
    """What a job would cost at the strong model, by the price list; nothing is asked of it."""
    with client(data) as api:
        stored = upload(api, rows)
        body = json.loads(job.read_text()) | {"training_file": stored["id"]}
        show_estimate(console, ask(api, "POST", f"{ROUTE}/estimate", json=body))


def upload(api: httpx.Client, rows: Path) -> dict[str, Any]:
    with rows.open("rb") as file:
        return ask(api, "POST", "/v1/files", files={"file": (rows.name, file)}, data={"purpose": "fine-tune"})


@app.command()
def watch(job: str, data: Data = Path(".meteor")) -> None:
    """Follow a job until it ends or pauses. Exit code 1 when it did not succeed, 3 when it is paused."""
    with client(data) as api:
        ask(api, "GET", f"{ROUTE}/{job}")
        found = watch_job(console, api, job)
    console.print(f"{job}: {found['status']}", highlight=False)
    if found["status"] == "paused":
        console.print(how_to_go_on(found), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(PAUSED_EXIT)
    if found["status"] != "succeeded":
        raise typer.Exit(1)
