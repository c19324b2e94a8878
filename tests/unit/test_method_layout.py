"""What docs/architecture.md promises of services/orchestrator/method: short phases, frozen values, one file that makes the next
state, and a context that is not handed on."""

import ast
import dataclasses
import re
from functools import cached_property
from pathlib import Path

import pytest

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.evaluate import EvalResult
from services.orchestrator.method.state import PhaseResult, State

METHOD = Path(__file__).parents[2] / "services" / "orchestrator" / "method"
PHASES = ("distill", "iterate", "evolve")
# which files hand the whole context to a function of another file, and to which; every other file asks a collaborator
HANDS_ON = {"pipeline": {"pilot", "PHASES[phase]"}}
BETWEEN_PHASES = (
    "data",
    "judge_trust",
    "decisions",
    "forgetting",
    "final_comparison",
    "reporter",
    "baselines",
    "costs",
)
FIELDS_MOST = 9  # of a collaborator


def tree(name: str) -> ast.Module:
    return ast.parse((METHOD / f"{name}.py").read_text())


def handed_on(name: str) -> set[str]:
    """The functions of other files that get `ctx` in this one."""
    own = {node.name for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    arguments = [(call, [*call.args, *(keyword.value for keyword in call.keywords)]) for call in calls]
    given = [call for call, values in arguments if any(isinstance(one, ast.Name) and one.id == "ctx" for one in values)]
    # partial(f, ctx) hands it to f
    called = [call.args[0] if ast.unparse(call.func) == "partial" else call.func for call in given]
    return {ast.unparse(one) for one in called} - own


def collaborators() -> dict[str, type]:
    """By their names in the context."""
    made = {name: one.func for name, one in vars(JobContext).items() if isinstance(one, cached_property)}
    kinds = {name: made_by.__annotations__["return"] for name, made_by in made.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


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


def test_the_pipeline_is_one_page():
    assert len((METHOD / "pipeline.py").read_text().splitlines()) <= 120


def test_nobody_hands_the_context_on_but_the_pipeline_and_it_to_phases_alone():
    assert {path.stem: names for path in METHOD.glob("*.py") if (names := handed_on(path.stem))} == HANDS_ON


def test_a_phase_needs_no_other_phase():
    for phase in PHASES:
        others = "|".join(one for one in (*PHASES, "pilot") if one != phase)
        assert not re.search(rf"method\.({others})\b", (METHOD / f"{phase}.py").read_text()), phase


def test_a_collaborator_does_not_know_the_context():
    """It could not be made without a job, and everything in the job could change what it does."""
    assert len(collaborators()) >= 15
    for kind in collaborators().values():
        assert "JobContext" not in Path(METHOD / f"{kind.__module__.rpartition('.')[2]}.py").read_text(), kind
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(object.__new__(kind), dataclasses.fields(kind)[0].name, None)


def test_a_collaborator_holds_few_things():
    many = {name: len(dataclasses.fields(kind)) for name, kind in collaborators().items()}
    assert {name: count for name, count in many.items() if count > FIELDS_MOST} == {}


def test_a_phase_does_not_ask_what_is_asked_between_phases():
    assert set(BETWEEN_PHASES) <= collaborators().keys()
    for phase in PHASES:
        asked = re.findall(rf"ctx\.({'|'.join(BETWEEN_PHASES)})\b", (METHOD / f"{phase}.py").read_text())
        assert asked == [], phase
