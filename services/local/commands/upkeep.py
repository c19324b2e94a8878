"""`meteor gc`, `meteor backup` and `meteor upload-artifacts`: what a data folder holds, thinned out and copied."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.local.commands.start_stop import DEFAULT_DATA, Data
from services.local.progress import ConsoleReport, SilentReport
from shared.contracts.errors import UserError
from shared.platform.settings import PlatformSettings
from shared.platform.terminal import console, emit, say

Json = Annotated[bool, typer.Option("--json", help="the counts as JSON, for scripts")]


def gc(
    data: Data = DEFAULT_DATA,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be removed")] = False,
    keep_days: Annotated[float | None, typer.Option(help="instead of METEOR_RETENTION", min=0.0)] = None,
    as_json: Json = False,
) -> None:
    """Remove what nobody needs any more: results of jobs that ended long ago, trained models that are no version, files that have
    expired, what is older in the audit log than METEOR_AUDIT_RETENTION, and stored chats older than METEOR_CHAT_RETENTION. The orchestrator does so by itself once an hour; needs the same DATABASE_URL as `up`."""
    from shared.artifacts.opening import open_artifacts, open_uploads
    from shared.datasets.files import remove_expired
    from shared.jobs.retention import collect, prune_audit, prune_chats
    from shared.jobs.schema import open_stores  # here: other commands need no database

    settings = PlatformSettings(data=data)
    if keep_days is not None:
        settings = settings.model_copy(update={"retention": timedelta(days=keep_days) or timedelta.resolution})
    if settings.database_url is None and not (data / "meteor.sqlite3").exists():
        raise UserError(f"there is no database in {data}; is DATABASE_URL set as it was for `meteor up`?")
    stores = open_stores(settings.database)
    store = stores.retention
    expired = remove_expired(stores.catalog, open_uploads(settings), dry_run)
    pruned = prune_audit(store, settings, dry_run)
    chats = prune_chats(stores.chats, settings, dry_run)
    removed = collect(store, open_artifacts(settings), settings, dry_run)
    if expired and not as_json:
        say(f"{expired} expired files {'would be ' * dry_run}removed")
    if pruned and not as_json:
        say(f"{pruned} entries of the audit log {'would be ' * dry_run}removed")
    if chats and not as_json:
        say(f"{chats} stored chats {'would be ' * dry_run}removed")
    text = "METEOR_RETENTION is zero: everything is kept"
    if removed is not None:
        text = (
            f"{'would remove' if dry_run else 'removed'} {removed.bytes / 1e9:.2f} GB: {removed.artifacts} artifacts, "
            f"{removed.served} served models, {removed.leftovers} leftovers; results of {removed.steps} steps are no longer "
            f"taken over; {removed.kept} artifacts stay"
        )
    counts = {"audit_entries": pruned, "expired_files": expired, "stored_chats": chats}
    emit({"dry_run": dry_run, "removed": removed} | counts, as_json, text)


def backup(
    target: Annotated[
        Path, typer.Argument(help="a folder; files that an earlier backup copied there are not copied again")
    ],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Copy databases, files, artifacts and served models while everything runs. `meteor up --data COPY` starts from it."""
    from services.local.backup import back_up  # here: other commands need no database

    settings = PlatformSettings(data=data)
    copied = back_up(settings, target)
    included = settings.database_url is None
    text = (
        f"copied {copied.databases} databases and {copied.files} files, {copied.bytes / 1e9:.2f} GB; "
        f"{copied.kept} files were there"
    )
    if not included:
        text += "\nthe database of DATABASE_URL is not in it: dump it before you run this command"
    if settings.artifacts_url:
        text += f"\nstart from it with METEOR_ARTIFACTS_URL=file://{target.resolve()}/objects"
    emit({"target": str(target), "database_included": included, **asdict(copied)}, as_json, text)


def upload_artifacts(
    verify: Annotated[
        bool, typer.Option("--verify", help="read everything back from the storage and check its hash")
    ] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Copy artifacts and uploaded files of the data folder to the object storage of METEOR_ARTIFACTS_URL; nothing is removed from
    the folder. What the storage has is not sent again, so the same command continues one that was cut off."""
    from services.local.upload_artifacts import upload  # here: other commands need no object storage

    settings = PlatformSettings(data=data)
    report = SilentReport() if as_json else ConsoleReport(console)
    with report.live():
        done = upload(settings, verify, report)
    lines = [
        f"sent {done.artifacts} artifacts and {done.files} files, {done.bytes / 1e9:.2f} GB, to {settings.artifacts_url}; "
        f"{done.kept} were there{' and were read back' * (verify and done.complete)}"
    ]
    lines += [
        f"not sent, because its content has changed: {path}; copy it from a backup and run the command again"
        for path in done.damaged
    ]
    lines += [f"in the storage {what}; remove that object and run the command again" for what in done.damaged_there]
    emit({"url": settings.artifacts_url, **asdict(done)}, as_json, "\n".join(lines))
    if not done.complete:
        raise typer.Exit(1)
