"""Following a job in the terminal: its events as they come, and one line with phase, bar, ETA and spend."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

ENDS = ("succeeded", "failed", "cancelled", "paused")  # of a paused job nothing more comes until somebody resumes it
LOOK_S = 1.0
PLAIN_S = 4.0  # without a terminal: at most this long between two lines
STYLES = {"info": "", "warn": "yellow", "error": "red"}


def watch_job(console: Console, client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Follow until the job has ended or is paused; returns the job. Survives restarts of the API."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            job: dict[str, Any] = {}
            for job, news in _changes(client, job_id):
                for event in news:
                    live.console.print(_line(event), style=STYLES[event["level"]], markup=False)
                live.update(_status(job))
            return job
    spoken, job = 0.0, {}
    for job, news in _changes(client, job_id):
        for event in news:
            console.print(_line(event), markup=False, soft_wrap=True)
        if news:
            spoken = time.monotonic()
        elif time.monotonic() - spoken >= PLAIN_S:
            spoken = time.monotonic()
            console.print(_plain(job), markup=False, soft_wrap=True)
    return job


def _changes(client: httpx.Client, job_id: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The job and its new events, about once a second, until it has ended or is paused."""
    seen: set[str] = set()
    while True:
        try:
            job = _get(client, f"/v1/distillation/jobs/{job_id}")
            events = _get(client, f"/v1/distillation/jobs/{job_id}/events?limit=100")["data"]
        except httpx.TransportError:
            time.sleep(LOOK_S)
            continue
        news = [event for event in reversed(events) if event["id"] not in seen]
        seen.update(event["id"] for event in news)
        yield job, news
        if job["status"] in ENDS:
            return
        time.sleep(LOOK_S)


def _get(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(path)
    if answer.status_code >= 500:
        raise httpx.TransportError(f"{path}: HTTP {answer.status_code}")
    answer.raise_for_status()
    return answer.json()


def _line(event: dict[str, Any]) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(event['created_at']))}  {event['message']}"


def _facts(job: dict[str, Any]) -> tuple[str, float, str, str]:
    distillation = job["distillation"]
    progress, usage = distillation["progress"], distillation["usage"]
    eta = progress["eta_seconds"]
    left = f"about {_duration(eta)} left" if eta is not None else "no estimate yet"
    budget = distillation["budget"]
    spent = ", ".join(
        (
            f"{usage['teacher_calls']}{_of(budget['max_calls'])} teacher calls",
            f"{usage['input_tokens'] + usage['output_tokens']}{_of(budget['max_tokens'])} tokens",
        )
    )
    if usage["usd_spent"] or budget["max_usd"] is not None:
        spent += f", {usage['usd_spent']:.4f}{_of(budget['max_usd'])} USD"
    return distillation["phase"] or job["status"], progress["percent"], left, spent


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _status(job: dict[str, Any]) -> Table:
    phase, percent, left, spent = _facts(job)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        f"[bold]{phase}[/bold]", ProgressBar(total=100, completed=percent, width=30), f"{percent:.0f} %", left, spent
    )
    return grid


def _plain(job: dict[str, Any]) -> str:
    phase, percent, left, spent = _facts(job)
    return f"          {phase}: {percent:.0f} %, {left}; {spent}"


def how_to_go_on(job: dict[str, Any]) -> str:
    """For people before a paused job: what it waits for, and the commands that end the wait."""
    reason = job["distillation"]["status_reason"] or "paused"
    if reason.startswith("budget_exceeded: the job's"):
        return f"{reason}\n`meteor jobs raise {job['id']} --usd ...` goes on, `meteor jobs cancel {job['id']}` ends it"
    return f"{reason}\n`meteor jobs resume {job['id']}` goes on, `meteor jobs cancel {job['id']}` ends it"


def show_estimate(console: Console, found: dict[str, Any]) -> None:
    """An estimate's phases and their sum, low to high, and what it assumes."""
    table = Table(title=f"Estimate by the {found['basis']}: calls to strong models")
    for column in ("phase", "calls", "input tokens", "output tokens", "USD"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for name, spend in (*found["phases"].items(), ("total", found["total"])):
        counts = (_span(spend[field], "{:,.0f}") for field in ("calls", "input_tokens", "output_tokens"))
        usd = _span(spend["usd"], "{:,.4f}") if spend["usd"] else "unknown"
        table.add_row(name, *counts, usd, style="bold" if name == "total" else "")
    console.print(table)
    for line in found["assumptions"]:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _span(found: dict[str, float], form: str) -> str:
    low, high = form.format(found["low"]), form.format(found["high"])
    return low if low == high else f"{low} - {high}"
