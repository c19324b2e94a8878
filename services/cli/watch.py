"""Following a job in the terminal: its events as they come, and one line with phase, bar, ETA and spend."""

import contextlib
import re
import time
from collections.abc import Callable
from itertools import takewhile

import httpx
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.cli.client import JOBS, ApiClient, Item, error_text, parsed
from shared.contracts.errors import UserError
from shared.contracts.estimate import Estimate, Range
from shared.contracts.jobs import JobObject
from shared.contracts.views import EventObject, Listed, StepObject
from shared.platform.terminal import QUIET_S, emit
from shared.reporting.durations import range_in_words, time_left

ENDED = ("succeeded", "failed", "cancelled", "paused")  # a paused job changes no more until it is resumed
LOOK_S = 1.0
STEPS_S = 10.0
VERDICTS = re.compile(r"^iterate/(\d+)/try-(\d+)/verdicts/")
STYLES = {"info": "", "warn": "yellow", "error": "red"}


class Follower:
    """One job, followed until it has ended or is paused. Survives restarts of the API.

    where: the API's address now; after a restart on the same data folder it may be another. Without it the address stays.
    on_look: gets the job at each look.
    """

    def __init__(
        self,
        api: ApiClient,
        job_id: str,
        where: Callable[[], str] | None = None,
        on_look: Callable[[JobObject], None] = lambda job: None,
    ):
        self._http = api.http
        self._job = JOBS.path(job_id)
        self._where = where
        self._on_look = on_look
        self._last_event: str | None = None
        self._steps_asked = float("-inf")
        self._pass_rate = ""

    def show(self, console: Console) -> JobObject:
        """For people. Returns the job."""
        return self._live(console) if console.is_terminal else self._lines(console)

    def emit_lines(self) -> JobObject:
        """For programs: each event, then the job, as a line of JSON. Returns the job."""

        def on_change(_: JobObject, events: list[EventObject]) -> None:
            for event in events:
                emit(event, True)

        job = self._follow(on_change)
        emit(job, True)
        return job

    def _live(self, console: Console) -> JobObject:
        with Live(console=console, refresh_per_second=4) as live:

            def on_change(job: JobObject, events: list[EventObject]) -> None:
                for event in events:
                    live.console.print(_line(event), style=STYLES[event.level], markup=False)
                live.update(_status(job, self._passed(job)))

            return self._follow(on_change)

    def _lines(self, console: Console) -> JobObject:
        """Each event, and a line when status or phase changed, or when anything else did that the last line said, QUIET_S ago."""
        shown, line, shown_at = None, "", 0.0

        def on_change(job: JobObject, events: list[EventObject]) -> None:
            nonlocal shown, line, shown_at
            for event in events:
                console.print(_line(event), markup=False, soft_wrap=True)
            state, new = (job.status, job.distillation.phase), _plain(job, self._passed(job))
            if state != shown or (new != line and time.monotonic() - shown_at >= QUIET_S):
                shown, line, shown_at = state, new, time.monotonic()
                console.print(new, markup=False, soft_wrap=True)

        return self._follow(on_change)

    def _follow(self, on_change: Callable[[JobObject, list[EventObject]], None]) -> JobObject:
        """Calls on_change about once a second with the job and its new events, oldest first. Returns the job that ended."""
        while True:
            try:
                job, events = self._get(JobObject), self._new_events()
            except httpx.TransportError:
                time.sleep(LOOK_S)
                self._find_api()
                continue
            on_change(job, events)
            self._on_look(job)
            if job.status in ENDED:
                return job
            time.sleep(LOOK_S)

    def _new_events(self) -> list[EventObject]:
        """Oldest first; the first time the newest hundred, later all since the last look."""
        events: list[EventObject] = []
        while True:
            page = self._get(Listed[EventObject], f"/events?limit=100{f'&after={events[-1].id}' if events else ''}")
            fresh = list(takewhile(lambda event: event.id != self._last_event, page.data))
            events += fresh
            if self._last_event is None or len(fresh) < len(page.data) or not page.has_more:
                break
        if events:
            self._last_event = events[0].id
        return events[::-1]

    def _get(self, model: type[Item], path: str = "") -> Item:
        """Raises httpx.TransportError where asking again may help, else UserError in the API's words."""
        answer = self._http.get(self._job + path)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise httpx.TransportError(f"{path}: HTTP {answer.status_code}")
        if answer.is_error:
            raise UserError(error_text(answer))
        return parsed(model, answer)

    def _find_api(self) -> None:
        if self._where is not None:
            with contextlib.suppress(UserError):  # nothing runs yet
                self._http.base_url = self._where()

    def _passed(self, job: JobObject) -> str:
        """The pass rate of the running round, read every STEPS_S seconds, as the list of steps may be long."""
        if job.distillation.phase != "iterate":
            return ""
        if time.monotonic() - self._steps_asked > STEPS_S:
            self._steps_asked = time.monotonic()
            with contextlib.suppress(httpx.TransportError):  # read at the next look
                self._pass_rate = pass_rate(self._get(Listed[StepObject], "/steps").data)
        return self._pass_rate


def pass_rate(steps: list[StepObject]) -> str:
    """Of the newest round with a verdict: how many of the questions tried so far have passed within the tries so far."""
    verdicts = [(VERDICTS.match(step.key), step.metrics) for step in steps if step.state == "succeeded"]
    counted = [(int(key[1]), int(key[2]), metrics) for key, metrics in verdicts if key and metrics.get("n")]
    newest = max((number for number, _, _ in counted), default=0)
    tried = sum(metrics["n"] for number, attempt, metrics in counted if number == newest and attempt == 1)
    passed = sum(metrics["passed"] for number, _, metrics in counted if number == newest)
    return f"round {newest}: {passed} of {tried} passed ({passed / tried:.0%})" if tried else ""


def _line(event: EventObject) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(event.created_at))}  {event.message}"


def _spent(job: JobObject, passed: str) -> str:
    usage, budget = job.distillation.usage, job.distillation.budget
    parts = [
        f"{usage.teacher_calls}{_of(budget.max_calls)} teacher calls",
        f"{usage.input_tokens + usage.output_tokens}{_of(budget.max_tokens)} tokens",
    ]
    if usage.usd_spent or budget.max_usd is not None:
        parts.append(f"{usage.usd_spent:.4f}{_of(budget.max_usd)} USD")
    return "; ".join(filter(None, [", ".join(parts), passed]))


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit}"


def _status(job: JobObject, passed: str) -> Group:
    """The phases with the one that runs, a bar, and below them what was spent and what passes."""
    percent = job.distillation.progress.percent
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=100, completed=percent, width=30)
    grid.add_row(_stages(job), bar, f"{percent:.0f} %", time_left(job.distillation.progress))
    return Group(grid, Text(_spent(job, passed), "dim"))


def _stages(job: JobObject) -> Text:
    """The stages in their order, the one that runs in bold; before the first one the status."""
    names = ["pilot", *job.distillation.phases, "evaluate"]
    if job.distillation.phase not in names:
        return Text(job.distillation.phase or job.status, "bold")
    at = names.index(job.distillation.phase)
    parts = [Text(name, "green" if n < at else "bold" if n == at else "dim") for n, name in enumerate(names)]
    return Text(" > ").join(parts)


def _plain(job: JobObject, passed: str) -> str:
    percent = job.distillation.progress.percent
    return f"          {job.distillation.phase or job.status}: {percent:.0f} %, {time_left(job.distillation.progress)}; {_spent(job, passed)}"


def how_to_continue(job: JobObject) -> str:
    """Why a job is paused, and the commands that continue or end it."""
    reason = job.distillation.status_reason or "paused"
    over_budget = reason.startswith("budget_exceeded: the job's")
    verb = f"`meteor jobs raise {job.id} --usd ...`" if over_budget else f"`meteor jobs resume {job.id}`"
    return f"{reason}\n{verb} goes on, `meteor jobs cancel {job.id}` ends it"


def estimate_table(estimate: Estimate) -> Group:
    """An estimate's phases and their sum, and below them the time and the memory that the job takes."""
    table = Table(title=f"Estimate by the {estimate.basis}: calls to strong models")
    for column in ("phase", "calls", "input tokens", "output tokens", "USD"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for name, spend in (*estimate.phases.items(), ("total", estimate.total)):
        counts = (_span(count, "{:,.0f}") for count in (spend.calls, spend.input_tokens, spend.output_tokens))
        usd = _span(spend.usd, "{:,.4f}") if spend.usd else "unknown"
        table.add_row(name, *counts, usd, style="bold" if name == "total" else "")
    lines: list[RenderableType] = [table]
    if any(span and span.at_most is not None for span in (estimate.total.input_tokens, estimate.total.usd)):
        total, usd = estimate.total, estimate.total.usd
        limits = [f"{_most(total.input_tokens):,.0f} + {_most(total.output_tokens):,.0f} tokens"]
        limits += [f"{_most(usd):,.4f} USD"] if usd else []
        lines.append(Text(f"at most, by the limits of the settings: {', '.join(limits)}"))
    if estimate.seconds is not None:
        lines.append(Text(f"time: {range_in_words(estimate.seconds)}"))
    if estimate.memory_gb is not None:
        lines.append(Text(f"memory of the largest training: {_span(estimate.memory_gb, '{:.1f}')} GB"))
    if estimate.memory is not None:
        there = estimate.memory
        beside = f", {there.engine_gb:.1f} GB of it for the engine" if there.engine_gb else ""
        words = "it fits" if there.fits else f"it does not fit: {there.remedy}"
        lines.append(Text(f"this machine's {there.device.upper()} has {there.device_gb:.1f} GB{beside}: {words}"))
    return Group(*lines)


def _most(span: Range) -> float:
    return span.high if span.at_most is None else span.at_most


def _span(span: Range, form: str) -> str:
    low, high = form.format(span.low), form.format(span.high)
    return low if low == high else f"{low} - {high}"
