"""What `meteor up` and `meteor status` show: one table, live on a terminal, plain lines elsewhere."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.local.supervisor.processes import memory
from shared.contracts.engine import EngineStatus, short
from shared.contracts.errors import TransientError
from shared.platform import run_state
from shared.platform.run_state import ProcessState, RunState
from shared.platform.terminal import QUIET_S, say

COLOURS = {"ready": "green", "starting": "yellow", "restarting": "red", "stopped": "dim"}
GIVE_UP_AFTER = 3  # a process that ended so often before it was ever ready will not come


class DidNotComeUp(TransientError):
    code = "did_not_come_up"


def table(run: RunState) -> Table:
    shown = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for title in ("process", "state", "port", "memory", "up for", "restarts"):
        shown.add_column(title, justify="left" if title in ("process", "state") else "right")
    total = 0
    for row in run.processes:
        used = memory(row.pid) if row.pid else 0
        total += used
        shown.add_row(
            row.name,
            f"[{COLOURS.get(row.state, '')}]{row.state}[/]",
            str(row.port or ""),
            f"{used / 2**20:,.0f} MB" if used else "",
            f"{time.time() - row.since:.0f} s",
            str(row.restarts or ""),
        )
    shown.add_row("", "", "", f"{total / 2**20:,.0f} MB", "", "", style="dim")
    return shown


def engine_state(control_url: str) -> str:
    """What the student's engine serves or loads, in a sentence."""
    try:
        answer = httpx.get(f"{control_url}/status", timeout=2, trust_env=False)
        status = EngineStatus.model_validate(answer.json())
    except (httpx.HTTPError, ValueError) as error:
        return f"the engine's control port does not answer: {type(error).__name__}"
    waiting = f"; wanted next: {', '.join(map(short, status.waiting))}" if status.waiting else ""
    return status.sentence(status.serving) + waiting


def wait_until_ready(data: Path, console: Console, timeout_s: float) -> RunState:
    """Show the table until every process is ready. Raises DidNotComeUp with the last lines of the log to blame."""
    started = time.monotonic()
    printed, printed_at = 0, started
    with _live(console) as live:
        while True:
            run = run_state.read(data)
            if run is None or not run.alive:
                raise DidNotComeUp(f"the supervisor ended; see {data / 'logs' / 'supervisor.log'}")
            if live is not None:
                live.update(table(run))
            else:
                for remark in run.remarks[printed:]:
                    say(f"  {remark}")
                    printed_at = time.monotonic()
                printed = len(run.remarks)
            if run.ready:
                return run
            late = [row for row in run.processes if row.state != "ready"]
            seconds = time.monotonic() - started
            hopeless = [row for row in late if row.restarts >= GIVE_UP_AFTER]
            if hopeless or seconds > timeout_s:
                raise DidNotComeUp(_blame(hopeless or late, seconds))
            if live is None and time.monotonic() - printed_at > QUIET_S:
                say(f"  {seconds:.0f} s, waiting for {', '.join(row.name for row in late)}")
                printed_at = time.monotonic()
            time.sleep(0.5)


@contextmanager
def _live(console: Console) -> Generator[Live | None]:
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield live


def _blame(rows: list[ProcessState], seconds: float) -> str:
    parts = [f"not ready after {seconds:.0f} s:"]
    for row in rows:
        lines = Path(row.log).read_text(errors="replace").splitlines()[-8:] if Path(row.log).exists() else []
        parts.append(f"{row.name} is {row.state} (restarts: {row.restarts}); the end of {row.log}:")
        parts += [f"    {line}" for line in lines]
    return "\n".join(parts)
