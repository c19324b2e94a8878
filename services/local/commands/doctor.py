"""`meteor doctor`: what is wrong here, and how to mend it."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.local.doctor.finding import Finding, Health
from shared.platform.terminal import make_console

console = make_console()
STYLES = {Health.OK: "green", Health.WARN: "yellow", Health.FAIL: "red"}


def doctor(
    data: Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder")] = Path(".meteor"),
    as_json: Annotated[bool, typer.Option("--json", help="the findings as JSON, for scripts")] = False,
    calls: Annotated[bool, typer.Option(help="ask each strong model for one token; it stands on the ledger")] = True,
) -> None:
    """Check machine, data folder, broker, database, models, engine and strong models, running or not. Exit code 1 when
    something has to be mended first."""
    from services.local.doctor.checkup import check_up  # here: it loads what every part needs

    found: list[Finding] = []
    for finding in check_up(data, os.environ, calls):
        found.append(finding)
        if not as_json:
            _show(finding)
    failed = sum(finding.health is Health.FAIL for finding in found)
    if as_json:
        print(json.dumps({"object": "checkup", "healthy": not failed, "checks": [_row(finding) for finding in found]}))
    else:
        warned = sum(finding.health is Health.WARN for finding in found)
        console.print(f"{len(found)} checks: {failed} failed, {warned} warnings", highlight=False)
    if failed:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    console.print(f"{finding.health.value:<4}", style=STYLES[finding.health], end=" ", highlight=False)
    console.print(f"{finding.name}: {finding.says}", highlight=False, markup=False, soft_wrap=True)
    if finding.mend:
        console.print(f"     mend: {finding.mend}", highlight=False, markup=False, soft_wrap=True)


def _row(finding: Finding) -> dict[str, str]:
    row = asdict(finding)
    return {"name": row["name"], "state": row["health"], "says": row["says"], "mend": row["mend"]}
