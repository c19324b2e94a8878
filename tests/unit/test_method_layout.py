"""What docs/architecture.md promises of services/orchestrator/method: short phases, frozen values, one file that makes the next
state."""

import dataclasses
import re
from pathlib import Path

import pytest

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.evaluate import EvalResult
from services.orchestrator.method.state import PhaseResult, State

METHOD = Path(__file__).parents[2] / "services" / "orchestrator" / "method"
PHASES = ("distill", "iterate", "evolve")


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_of_the_paper_is_one_file_of_150_lines_at_most(phase: str):
    assert len((METHOD / f"{phase}.py").read_text().splitlines()) <= 150


@pytest.mark.parametrize("kind", [JobContext, State, PhaseResult, EvalResult])
def test_what_phases_share_is_frozen(kind: type):
    value = object.__new__(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(kind)[0].name, None)


def test_only_the_pipeline_makes_the_next_state():
    makers = {
        path.stem for path in METHOD.glob("*.py") if re.search(r"\bState\(|replace\(\s*state\b", path.read_text())
    }
    assert makers == {"pipeline"}


def test_phases_do_not_know_the_pipeline_or_the_job_outside_them():
    for name in (*PHASES, "pilot", "evaluate", "judging"):
        assert not re.search(r"method\.pipeline|DistillationRun|runtime", (METHOD / f"{name}.py").read_text()), name
