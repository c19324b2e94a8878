"""The `meteor` command: start and stop everything on one machine, prepare models, follow jobs."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from services.local import (
    audit_cli,
    canary_cli,
    chat_cli,
    data_cli,
    experiments_cli,
    exports_cli,
    jobs_cli,
    keys_cli,
    labels_cli,
    models_cli,
    projects_cli,
    remote,
    report_cli,
    state,
    upkeep_cli,
    webhooks_cli,
)
from services.local.doctor_cli import doctor
from services.local.models import pull
from services.local.plan import CONTROL, models_needed
from services.local.progress import ConsoleReport, make_console
from services.local.screen import DidNotComeUp, engine_state, table, wait_until_ready
from services.local.settings import LocalSettings
from services.local.supervisor import launch, serve, shut_down
from shared.contracts.errors import MeteorError

cli = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
for name, module in {
    "jobs": jobs_cli,
    "models": models_cli,
    "data": data_cli,
    "experiments": experiments_cli,
    "labels": labels_cli,
    "canary": canary_cli,
    "exports": exports_cli,
    "keys": keys_cli,
    "projects": projects_cli,
    "webhooks": webhooks_cli,
}.items():
    cli.add_typer(module.app, name=name)
for command in (
    chat_cli.chat,
    report_cli.report,
    report_cli.usage,
    doctor,
    audit_cli.audit,
    upkeep_cli.gc,
    upkeep_cli.backup,
):
    cli.command()(command)
console = make_console()
Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="database, artifacts, adapters, logs, broker")]
DEFAULT_DATA = Path(".meteor")


@cli.callback(help=__doc__)
def everywhere(
    url: Annotated[str | None, typer.Option("--url", help="an API on another machine; as METEOR_URL says")] = None,
) -> None:
    """What all commands have in common."""
    if url is not None:
        os.environ[remote.ELSEWHERE[0]] = url


@cli.command()
def up(
    data: Data = DEFAULT_DATA,
    foreground: Annotated[bool, typer.Option("--foreground", help="stay attached; Ctrl-C stops everything")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="start this process (may be repeated)")] = None,
) -> None:
    """Start everything (or --only some) and wait until it is ready."""
    bring_up(data, only, foreground)


def bring_up(data: Path, only: list[str] | None = None, foreground: bool = False) -> state.RunState | None:
    """Prepare the models, start the supervisor, show the table until all is ready. None after a run in the foreground."""
    running = state.read(data)
    if running is not None and running.alive:
        console.print(f"already running on {data}", highlight=False)
        return _finish(data)
    console.print(f"starting METEOR on {data}", highlight=False)
    settings = LocalSettings()
    report = ConsoleReport(console)
    with report.live():
        for source in models_needed(only, os.environ):
            pull(source, settings.models, report)
    if foreground:
        raise typer.Exit(serve(data, only))
    launch(data, only)
    try:
        return _finish(data)
    except (DidNotComeUp, KeyboardInterrupt):
        console.print("stopping what was started")
        shut_down(data)
        raise


def _finish(data: Path) -> state.RunState:
    started = time.monotonic()
    run = wait_until_ready(data, console, LocalSettings().ready_timeout_s)
    if not console.is_terminal:
        console.print(table(run))
    for remark in run.remarks:
        if "port" in remark:
            console.print(remark, highlight=False, soft_wrap=True)
    where = run.urls.get("api", "no api")
    console.print(f"ready after {time.monotonic() - started:.0f} s: {where}", highlight=False, soft_wrap=True)
    if "api" in run.urls:
        console.print(f"the jobs in a browser: {where}/", highlight=False, soft_wrap=True)
    return run


@cli.command()
def down(data: Data = DEFAULT_DATA) -> None:
    """Stop everything that runs on a data folder. Jobs go on at the next `up`."""
    started = time.monotonic()
    count = shut_down(data)
    if count:
        console.print(f"stopped {count} processes in {time.monotonic() - started:.1f} s", highlight=False)
    else:
        console.print(f"nothing runs on {data}", highlight=False)


@cli.command()
def status(
    data: Data = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="processes and addresses as JSON, for scripts")] = False,
) -> None:
    """What runs. Exit code 1 unless everything is ready."""
    run = state.read(data)
    alive = run is not None and run.alive
    if as_json:
        found = (
            run.model_dump(mode="json", include={"ready", "processes", "urls"}) if run and alive else {"ready": False}
        )
        print(json.dumps({"object": "run", "alive": alive} | found))
    elif run is None:
        console.print(f"nothing runs on {data}", highlight=False)
    elif not alive:
        console.print(f"the supervisor (pid {run.supervisor}) is gone; `meteor down` cleans up", highlight=False)
    else:
        _tell(run)
    if run is None or not alive or not run.ready:
        raise typer.Exit(1)


def _tell(run: state.RunState) -> None:
    console.print(table(run))
    for name, url in run.urls.items():
        console.print(f"{name}: {url}", highlight=False, soft_wrap=True)
    if CONTROL in run.urls:
        console.print(engine_state(run.urls[CONTROL]), highlight=False, soft_wrap=True)


@cli.command()
def demo(
    domain: Annotated[str, typer.Argument(help="shell or machine-learning")] = "shell", data: Data = DEFAULT_DATA
) -> None:
    """Start everything, run one small job through all three phases on real models, show what it gained."""
    bring_up(data)
    from services.local.demo import run_demo  # after the first signs of life: it brings the openai package with it

    raise typer.Exit(run_demo(console, state.api_url(data), remote.api_key(data), domain, data))


def app(prog_name: str = "meteor") -> None:
    """The console script: errors of ours are one line, everything else is a traceback."""
    try:
        cli(prog_name=prog_name)
    except MeteorError as error:
        sys.stderr.write(f"{prog_name}: {error}\n")
        raise SystemExit(remote.PAUSED_EXIT if isinstance(error, remote.Waits) else 1) from None


if __name__ == "__main__":
    app()
