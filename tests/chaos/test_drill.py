"""The drill's short form: the first phase of a small job under a few strikes. `make chaos` holds the long one."""

from pathlib import Path

import pytest

from tests.chaos import jobs
from tests.chaos.__main__ import hold
from tests.chaos.drill import Plan

pytestmark = pytest.mark.timeout(900)


def test_a_job_that_is_struck_ends_as_one_that_is_not(tmp_path: Path):
    """Killed: weak worker, strong worker, gateway with calls on their way. Frozen beyond its lease: the orchestrator."""
    said: list[str] = []
    plan = Plan(seed=1330, kills=4, questions=40, job=jobs.SHORT, teacher_s=0.8, engine_s=0.3, gap_s=4.0)
    assert hold(plan, tmp_path, said.append) == [], "\n".join(said)
