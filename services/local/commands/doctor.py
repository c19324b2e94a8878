"""`meteor doctor`: what is wrong here, and how to fix it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from services.local.doctor.finding import Finding, Health
from shared.platform.terminal import console, emit, say

STYLES = {Health.OK: "green", Health.WARN: "yellow", Health.FAIL: "red"}


def doctor(
    data: Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder")] = Path(".meteor"),
    as_json: Annotated[bool, typer.Option("--json", help="the findings as JSON, for scripts")] = False,
    calls: Annotated[bool, typer.Option(help="ask each strong model for one token; the call is on the ledger")] = True,
) -> None:
    """Check machine, data folder, broker, database, models, engine and strong models, running or not. Exit code 1 when
    something must be fixed first."""
    from services.local.doctor.checkup import check_up  # here: it loads what every part needs

    findings: list[Finding] = []
    for finding in check_up(data, os.environ, calls):
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = sum(finding.health is Health.FAIL for finding in findings)
    warned = sum(finding.health is Health.WARN for finding in findings)
    rows = [{"name": f.name, "state": f.health.value, "says": f.message, "mend": f.fix} for f in findings]
    summary = f"{len(findings)} checks: {failed} failed, {warned} warnings"
    emit({"object": "checkup", "healthy": not failed, "checks": rows}, as_json, summary)
    if failed:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    console.print(f"{finding.health.value:<4}", style=STYLES[finding.health], end=" ", highlight=False)
    say(f"{finding.name}: {finding.message}")
    if finding.fix:
        say(f"     fix: {finding.fix}")
