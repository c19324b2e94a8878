"""How a job's students are asked and trained, without a job: no step of theirs is run."""

from services.orchestrator.method.students import Students
from shared.contracts.distillation import Distillation, Hyperparameters
from shared.contracts.grader_kinds import Grader
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepResult

SPEC = Distillation(domain="d", primary_metric=Grader.STRING_CHECK)


async def no_step(key: StepKey, kind: StepKind, params: object, rows: object) -> StepResult:
    raise AssertionError(f"nothing runs step {key}")


def students(spec: Distillation = SPEC) -> Students:
    return Students(spec, Hyperparameters(), seed=0, shows_calls=True, step=no_step)
