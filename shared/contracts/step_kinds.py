"""The registry of step kinds: the parameters, the rows and the cost of each."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.capabilities import PROBE
from shared.contracts.coverage import Proposal, Proposed, ProposeParams
from shared.contracts.eval_results import Checked, CheckInput, CheckParams, CompleteParams
from shared.contracts.export_steps import GgufParams, MergeParams, PushParams
from shared.contracts.imports import AskParams, Passage, ReadParams, Written
from shared.contracts.json_types import Json
from shared.contracts.rows import (
    AnswerScores,
    ComparisonInput,
    Example,
    Grades,
    Guideline,
    JudgeInput,
    Likelihood,
    ParitySample,
    Preference,
    PreferencePair,
    Sampled,
    Samples,
    StudentCompletion,
    StudentPrompt,
    TeacherInput,
    TeacherResponse,
    Verdict,
    Votes,
)
from shared.contracts.steps import (
    AgreeParams,
    JudgeParams,
    ProbeParams,
    ScoreParams,
    SearchParams,
    StepKind,
    StepRequest,
    StudentParams,
    TeachParams,
    TrainParams,
    Wire,
)


@dataclass(frozen=True)
class StepKindSpec:
    """params: type of the request's params. rows: type of the request's rows. results: type of the result's rows; None: there
    are no rows, or (READ) their type depends on the source.

    cost: relative seconds per row, on the machine of docs/results.md; only ratios matter.
    version: part of every step's hash. Raise it when the kind's prompt or algorithm changes its results;
    tests/unit/test_prompt_versions.py compares the prompts' fingerprints with it.
    prompted: the kind renders a prompt of ours, whose version stands in every report. learns: the kind trains a student.
    """

    params: type[Wire]
    rows: type[Wire] | None
    results: type[Wire] | None
    cost: float
    version: int = 1
    prompted: bool = False
    learns: bool = False


STEP_KINDS: Mapping[StepKind, StepKindSpec] = {
    StepKind.GUIDE: StepKindSpec(StudentParams, StudentPrompt, Guideline, cost=1.1, version=2, prompted=True),
    StepKind.ANSWER: StepKindSpec(StudentParams, StudentPrompt, StudentCompletion, cost=0.6, prompted=True),
    StepKind.REASON: StepKindSpec(StudentParams, StudentPrompt, StudentCompletion, cost=1.5, version=2, prompted=True),
    StepKind.SAMPLE: StepKindSpec(StudentParams, StudentPrompt, Samples, cost=0.4, prompted=True),
    StepKind.TEACH: StepKindSpec(TeachParams, TeacherInput, TeacherResponse, cost=2.2, version=2, prompted=True),
    StepKind.READ: StepKindSpec(ReadParams, None, None, cost=5.0),
    StepKind.ASK: StepKindSpec(AskParams, Passage, Written, cost=8.0),
    StepKind.PROPOSE: StepKindSpec(ProposeParams, Proposal, Proposed, cost=4.0),
    StepKind.COMPLETE: StepKindSpec(CompleteParams, StudentPrompt, StudentCompletion, cost=2.2),
    StepKind.COMPARE: StepKindSpec(JudgeParams, ComparisonInput, Preference, cost=5.0, prompted=True),
    StepKind.RATE: StepKindSpec(JudgeParams, JudgeInput, AnswerScores, cost=2.5, prompted=True),
    StepKind.REVIEW: StepKindSpec(JudgeParams, JudgeInput, Verdict, cost=2.5, prompted=True),
    StepKind.GRADE: StepKindSpec(JudgeParams, JudgeInput, Grades, cost=0.01, version=2),  # 2: flags, contains
    StepKind.CHECK: StepKindSpec(CheckParams, CheckInput, Checked, cost=0.01),
    StepKind.AGREE: StepKindSpec(AgreeParams, Sampled, Votes, cost=0.05),
    StepKind.SFT: StepKindSpec(
        TrainParams, Example, None, cost=0.4, version=3, learns=True
    ),  # 3: the order of the rows
    StepKind.SCORE: StepKindSpec(ScoreParams, Example, Likelihood, cost=0.5),
    StepKind.SEARCH: StepKindSpec(SearchParams, StudentPrompt, PreferencePair, cost=3.0),
    StepKind.DPO: StepKindSpec(TrainParams, PreferencePair, None, cost=1.5, version=2, learns=True),
    StepKind.MERGE: StepKindSpec(MergeParams, StudentPrompt, ParitySample, cost=5.0),
    StepKind.GGUF: StepKindSpec(GgufParams, None, None, cost=60.0),
    StepKind.PUSH: StepKindSpec(PushParams, None, None, cost=60.0),
    StepKind.PROBE: StepKindSpec(ProbeParams, None, None, cost=1.0, version=PROBE),
}


def step_request(kind: StepKind, params: Wire, rows: list[Json]) -> StepRequest:
    """The request of a step, with the kind's present version."""
    return StepRequest(kind=kind, version=STEP_KINDS[kind].version, params=params.model_dump(mode="json"), rows=rows)


def learns(kind: str) -> bool:
    """Whether steps of this kind train a student."""
    return STEP_KINDS[StepKind(kind)].learns


def rows_of(params: Wire, rows: int) -> float:
    """A step's rows as the plan counts them: each epoch of a row and each answer to it is one."""
    match params:
        case TrainParams():
            return rows * params.epochs
        case TeachParams():
            return rows * params.samples
        case StudentParams():
            return rows * params.n
        case _:
            return rows


def cost(kind: StepKind, rows: float) -> float:
    """Relative seconds of so many rows."""
    return STEP_KINDS[kind].cost * rows
