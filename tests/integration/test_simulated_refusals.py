"""Rows that a provider takes never, in whole jobs: they are missing and named; only too many of them end a job."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.cli.report_screen import show_report
from services.orchestrator.runtime.refusals import TooManyRefused
from shared.contracts.report import read_report
from shared.contracts.steps import StepKind
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import Simulation, World, questions

DISTILL: dict[str, Any] = {
    "phases": ["distill"], "guidance": "none", "batch_size": 8, "evaluation": {"baselines": [], "forgetting": 0},
}  # fmt: skip
WORDS = "content_filter: the prompt was flagged as violence"


def refusing(share: float, kind: StepKind = StepKind.TEACH) -> World:
    """Refuses this share of the rows of a kind of step, evenly."""
    world = World()
    world.refuses = lambda asked, row: (
        WORDS if asked is kind and int(row["id"].split("-")[1]) % 20 < 20 * share else None
    )
    return world


def of_distill(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Without those that the pilot met before."""
    return [row for row in report["refused"] if row["phase"] == "distill"]


@pytest.mark.parametrize("share", [0.05, 0.2])
async def test_refused_rows_are_missing_counted_and_named(tmp_path: Path, share: float):
    simulation, refused = Simulation(tmp_path), round(60 * share)
    report = await simulation.job(refusing(share), questions(), **DISTILL)
    named = of_distill(report)
    assert len(named) == refused
    assert named[0] == {"id": "train-0", "outcome": "refused", "words": WORDS, "phase": "distill"}
    assert report["phases"]["distill"]["dropped"] == {"refused": refused}
    assert report["phases"]["distill"]["kept"] == 60 - refused
    events = [event for event in simulation.stores.jobs.events(report["job"]) if event.type == "refused"]
    assert sum(len((event.data or {})["rows"]) for event in events) == len(report["refused"])
    assert WORDS in events[0].message
    file = io.StringIO()
    show_report(Console(file=file, width=250), read_report(report))
    for text in (file.getvalue(), as_markdown(read_report(report))):
        assert f"rows that a provider refused, which are missing from the data: {len(report['refused'])}" in text
        assert f"distill, row train-0, refused: {WORDS}" in text


async def test_too_many_refused_rows_end_the_job_and_it_says_which_and_why(tmp_path: Path):
    simulation = Simulation(tmp_path)
    with pytest.raises((TooManyRefused, BaseExceptionGroup)) as caught:
        await simulation.job(refusing(0.5), questions(), **DISTILL)
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TooManyRefused)
    assert re.search(
        "refuses [0-9]+ of [0-9]+ rows of (pilot|distill), more than the 20% that may be missing", error.message
    )
    assert re.search(f"train-[0-9]+ refused: {WORDS}", error.message)
    assert "distillation.most_refused" in error.message


async def test_the_share_is_the_job_s_to_set_and_few_rows_never_end_it(tmp_path: Path):
    simulation = Simulation(tmp_path)
    report = await simulation.job(refusing(0.5), questions(), **DISTILL, most_refused=0.8)
    assert len(of_distill(report)) == 30
    few = await simulation.job(refusing(0.05), questions(), "few", **DISTILL, most_refused=0.0)
    assert len(of_distill(few)) == 3
    assert "refused" not in await simulation.job(World(), questions(), "none", **DISTILL)
