"""`meteor up`, `down` and `status`: everything on one machine."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from services.local.models.prepare import pull
from services.local.models.probing import publish
from services.local.progress import ConsoleReport
from services.local.screen import DidNotComeUp, engine_state, table, wait_until_ready
from services.local.settings import LocalSettings
from services.local.supervisor.main import launch, serve, shut_down
from services.local.supervisor.plan import CONTROL, models_needed
from shared.platform import run_state
from shared.platform.terminal import console, emit, say

Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="database, artifacts, adapters, logs, broker")]
DEFAULT_DATA = Path(".meteor")


def up(
    data: Data = DEFAULT_DATA,
    foreground: Annotated[bool, typer.Option("--foreground", help="stay attached; Ctrl-C stops everything")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="start this process (may be repeated)")] = None,
) -> None:
    """Start everything (or --only some) and wait until it is ready."""
    bring_up(data, only, foreground)


def bring_up(data: Path, only: list[str] | None = None, foreground: bool = False) -> run_state.RunState | None:
    """Prepare the models, start the supervisor, show the table until all is ready. None after a run in the foreground."""
    running = run_state.read(data)
    if running is not None and running.alive:
        say(f"already running on {data}")
        return _finish(data)
    say(f"starting METEOR on {data}")
    settings = LocalSettings()
    report = ConsoleReport(console)
    with report.live():
        for source in models_needed(only, os.environ, data):
            publish(data, pull(source, settings.models, report), settings.models)
    if foreground:
        raise typer.Exit(serve(data, only))
    launch(data, only)
    try:
        return _finish(data)
    except (DidNotComeUp, KeyboardInterrupt):
        say("stopping what was started")
        shut_down(data)
        raise


def _finish(data: Path) -> run_state.RunState:
    started = time.monotonic()
    run = wait_until_ready(data, console, LocalSettings().ready_timeout_s)
    if not console.is_terminal:
        console.print(table(run))
    for remark in run.remarks:
        if "port" in remark:
            say(remark)
    where = run.urls.get("api", "no api")
    say(f"ready after {time.monotonic() - started:.0f} s: {where}")
    if "api" in run.urls:
        say(f"the jobs in a browser: {where}/")
    return run


def down(data: Data = DEFAULT_DATA) -> None:
    """Stop everything that runs on a data folder. Jobs go on at the next `up`."""
    started = time.monotonic()
    count = shut_down(data)
    if count:
        say(f"stopped {count} processes in {time.monotonic() - started:.1f} s")
    else:
        say(f"nothing runs on {data}")


def status(
    data: Data = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="processes and addresses as JSON, for scripts")] = False,
) -> None:
    """Show which processes run. Exit code 1 unless everything is ready."""
    run = run_state.read(data)
    alive = run is not None and run.alive
    if as_json:
        state = (
            run.model_dump(mode="json", include={"ready", "processes", "urls"}) if run and alive else {"ready": False}
        )
        emit({"object": "run", "alive": alive, **state}, True)
    elif run is None:
        say(f"nothing runs on {data}")
    elif not alive:
        say(f"the supervisor (pid {run.supervisor}) is gone; `meteor down` cleans up")
    else:
        _show(run)
    if run is None or not alive or not run.ready:
        raise typer.Exit(1)


def _show(run: run_state.RunState) -> None:
    console.print(table(run))
    for name, url in run.urls.items():
        say(f"{name}: {url}")
    if CONTROL in run.urls:
        say(engine_state(run.urls[CONTROL]))
