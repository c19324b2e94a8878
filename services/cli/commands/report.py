"""`meteor report` and `meteor usage`: what a job gained and what it cost."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.cli.client import DEFAULT_DATA, ROUTE, Data, Json, answer_of, ask, client, the_job
from services.cli.report_markdown import as_markdown
from services.cli.report_screen import show_report
from shared.artifacts.store import write_atomically
from shared.contracts.report import read_report
from shared.platform.terminal import make_console
from shared.reporting.words import label

console = make_console()
Job = Annotated[str, typer.Argument(help="a job's id; `last` is the newest one")]
COUNTS = ("teacher_calls", "cached_calls", "input_tokens", "output_tokens")


def report(
    job: Job = "last",
    data: Data = DEFAULT_DATA,
    markdown: Annotated[bool, typer.Option("--markdown", help="the tables as Markdown, for documents")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="write it to this file as a page with plots")] = None,
    as_json: Json = False,
) -> None:
    """What a finished job gained, against what, and what it cost."""
    with client(data) as api:
        path = f"{ROUTE}/{the_job(api, job)}/report"
        if html is not None:
            write_atomically(html, answer_of(api, "GET", path, headers={"accept": "text/html"}).content)
            html.chmod(0o644)
            console.print(str(html), highlight=False, markup=False, soft_wrap=True)
            return
        found = ask(api, "GET", path)
    if as_json:
        print(json.dumps(found))
    elif markdown:
        print(as_markdown(read_report(found)))
    else:
        show_report(console, read_report(found))


def usage(job: Job = "last", data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """What a job has asked of strong models so far, by phase, and what of its budget that is."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{the_job(api, job)}/usage")
    if as_json:
        print(json.dumps(found))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("phase", "calls", "from cache", "tokens in", "tokens out", "USD"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for name, used in (*found["phases"].items(), ("total", found["total"])):
        counts = (f"{used[field]:,}" for field in COUNTS)
        table.add_row(label(name), *counts, f"{used['usd_spent']:.4f}", style="bold" if name == "total" else "")
    console.print(table)
    limits = {name: limit for name, limit in found["budget"].items() if name.startswith("max_") and limit is not None}
    for name, limit in limits.items():
        counted = (found["counted"] or {}).get(name.removeprefix("max_"), 0)
        console.print(f"budget: {counted:g} of {limit:g} {name.removeprefix('max_')}", highlight=False)
