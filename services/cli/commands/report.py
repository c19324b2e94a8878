"""`meteor report` and `meteor usage`: what a job gained and what it cost."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.cli.client import JOBS, client
from services.cli.options import DEFAULT_DATA, Data, Job, Json
from services.cli.report_screen import show_report
from shared.artifacts.store import write_atomically
from shared.contracts.report import read_report
from shared.contracts.views import JobUsage
from shared.platform.terminal import console, emit, say, write
from shared.reporting.markdown import as_markdown
from shared.reporting.words import label


def report(
    job: Job = "last",
    data: Data = DEFAULT_DATA,
    markdown: Annotated[bool, typer.Option("--markdown", help="the tables as Markdown, for documents")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="write it to this file as a page with plots")] = None,
    as_json: Json = False,
) -> None:
    """What a finished job gained, against what, and what it cost."""
    with client(data) as api:
        path = JOBS.path(api.job_id(job), "report")
        if html is not None:
            write_atomically(html, api.answer("GET", path, headers={"accept": "text/html"}).content)
            html.chmod(0o644)
            say(str(html))
            return
        stored = api.answer("GET", path).json()
    if as_json:
        emit(stored, True)
    elif markdown:
        write(as_markdown(read_report(stored)) + "\n")
    else:
        show_report(console, read_report(stored))


def usage(job: Job = "last", data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """What a job has asked of strong models so far, by phase, and what of its budget that is."""
    with client(data) as api:
        spent = api.ask(JobUsage, "GET", JOBS.path(api.job_id(job), "usage"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("phase", "calls", "from cache", "tokens in", "tokens out", "USD"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for name, used in (*spent.phases.items(), ("total", spent.total)):
        counts = (used.teacher_calls, used.cached_calls, used.input_tokens, used.output_tokens)
        cells = (label(name), *(f"{count:,}" for count in counts), f"{used.usd_spent:.4f}")
        table.add_row(*cells, style="bold" if name == "total" else "")
    emit(spent, as_json, table)
    if as_json:
        return
    limits = {"usd": spent.budget.max_usd, "tokens": spent.budget.max_tokens, "calls": spent.budget.max_calls}
    for name, limit in limits.items():
        if limit is not None:
            say(f"budget: {(spent.counted or {}).get(name, 0):g} of {limit:g} {name}")
