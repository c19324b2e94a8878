"""Following a job in the terminal: its events as they come, and one line with phase, bar, ETA and spend."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.cli.client import words
from shared.contracts.errors import UserError

ENDS = ("succeeded", "failed", "cancelled", "paused")  # of a paused job nothing more comes until somebody resumes it
LOOK_S = 1.0
STEPS_S = 10.0
VERDICTS = re.compile(r"^iterate/(\d+)/try-(\d+)/verdicts/")
PLAIN_S = 4.0  # without a terminal: at most this long between two lines
STYLES = {"info": "", "warn": "yellow", "error": "red"}


class Follower:
    """One job, followed until it has ended or is paused. Survives restarts of the API.

    where: the API's address now; after a restart on the same data folder it may be another. Without it the address stays.
    """

    def __init__(self, client: httpx.Client, job_id: str, where: Callable[[], str] | None = None):
        self._client = client
        self._job = f"/v1/distillation/jobs/{job_id}"
        self._where = where
        self._last: str | None = None  # the newest event that was told
        self._asked_steps = float("-inf")
        self.passed: str = ""

    def show(self, console: Console) -> dict[str, Any]:
        """Told to people; returns the job."""
        return self._live(console) if console.is_terminal else self._plain(console)

    def tell_lines(self) -> dict[str, Any]:
        """Told to programs: each event, then the job, as a line of JSON. Returns the job."""
        last: dict[str, Any] = {}
        for job, news in self._changes():
            last = job
            for event in news:
                print(json.dumps(event), flush=True)
        print(json.dumps(last), flush=True)
        return last

    def _live(self, console: Console) -> dict[str, Any]:
        job: dict[str, Any] = {}
        with Live(console=console, refresh_per_second=4) as live:
            for job, news in self._changes():
                for event in news:
                    live.console.print(_line(event), style=STYLES[event["level"]], markup=False)
                live.update(_status(job, self._pass_rate(job)))
        return job

    def _plain(self, console: Console) -> dict[str, Any]:
        spoken, job = 0.0, {}
        for job, news in self._changes():
            for event in news:
                console.print(_line(event), markup=False, soft_wrap=True)
            if news:
                spoken = time.monotonic()
            elif time.monotonic() - spoken >= PLAIN_S:
                spoken = time.monotonic()
                console.print(_plain(job, self._pass_rate(job)), markup=False, soft_wrap=True)
        return job

    def _changes(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The job and its new events, about once a second."""
        while True:
            try:
                job = self._get()
                news = self._news()
            except httpx.TransportError:
                time.sleep(LOOK_S)
                self._look_for_it()
                continue
            yield job, news
            if job["status"] in ENDS:
                return
            time.sleep(LOOK_S)

    def _news(self) -> list[dict[str, Any]]:
        """Oldest first; the first time the newest hundred, later all that came since."""
        found: list[dict[str, Any]] = []
        path = f"{self._job}/events?limit=100"
        while True:
            page = self._get(path.removeprefix(self._job) + (f"&after={found[-1]['id']}" if found else ""))
            fresh = list(takewhile(lambda event: event["id"] != self._last, page["data"]))
            found += fresh
            if self._last is None or len(fresh) < len(page["data"]) or not page["has_more"]:
                break
        if found:
            self._last = found[0]["id"]
        return found[::-1]

    def _get(self, path: str = "") -> dict[str, Any]:
        """Raises httpx.TransportError where asking again may help, else UserError in the API's words."""
        answer = self._client.get(self._job + path)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise httpx.TransportError(f"{path}: HTTP {answer.status_code}")
        if answer.is_error:
            raise UserError(words(answer))
        return answer.json()

    def _look_for_it(self) -> None:
        if self._where is not None:
            with contextlib.suppress(UserError):  # nothing runs yet
                self._client.base_url = self._where()

    def _pass_rate(self, job: dict[str, Any]) -> str:
        """Of the round that runs, by the verdicts so far; asked for now and then, as the list of steps may be long."""
        if job["distillation"]["phase"] != "iterate":
            return ""
        if time.monotonic() - self._asked_steps > STEPS_S:
            self._asked_steps = time.monotonic()
            with contextlib.suppress(httpx.TransportError):  # told at the next look
                self.passed = pass_rate(self._get("/steps")["data"])
        return self.passed


def pass_rate(steps: list[dict[str, Any]]) -> str:
    """Of the newest round with a verdict: how many of the questions tried so far have passed within the tries so far."""
    verdicts = [(VERDICTS.match(step["key"]), step["metrics"] or {}) for step in steps if step["state"] == "succeeded"]
    found = [(int(key[1]), int(key[2]), metrics) for key, metrics in verdicts if key and metrics.get("n")]
    newest = max((number for number, _, _ in found), default=0)
    tried = sum(metrics["n"] for number, t, metrics in found if number == newest and t == 1)
    passed = sum(metrics["passed"] for number, _, metrics in found if number == newest)
    return f"round {newest}: {passed} of {tried} passed ({passed / tried:.0%})" if tried else ""


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


def _status(job: dict[str, Any], passed: str) -> Group:
    """The phases with the one that runs, a bar, and below them what was spent and what passes."""
    phase, percent, left, spent = _facts(job)
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=100, completed=percent, width=30)
    grid.add_row(_stages(job) or Text(phase, "bold"), bar, f"{percent:.0f} %", left)
    return Group(grid, Text("; ".join(filter(None, [spent, passed])), "dim"))


def _stages(job: dict[str, Any]) -> Text | None:
    """The stages in their order, the one that runs in bold; None before the first."""
    own = job["distillation"]
    names = ["pilot", *own.get("phases", []), "evaluate"]
    if own["phase"] not in names:
        return None
    at = names.index(own["phase"])
    parts = [Text(name, "green" if n < at else "bold" if n == at else "dim") for n, name in enumerate(names)]
    return Text(" > ").join(parts)


def _plain(job: dict[str, Any], passed: str) -> str:
    phase, percent, left, spent = _facts(job)
    return f"          {phase}: {percent:.0f} %, {left}; {'; '.join(filter(None, [spent, passed]))}"


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
