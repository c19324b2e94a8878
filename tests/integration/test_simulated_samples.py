"""Phases 2 and 3 over samples of the student, in whole jobs: real orchestration and database, pretended workers."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.results.report_page import page
from shared.contracts.data import Split
from shared.contracts.report import read_report
from shared.contracts.rows import Verdict
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult, TrainParams
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import Simulation, World, questions

EVALUATION = {"baselines": [], "forgetting": 0}
GRADED: dict[str, Any] = {"judge": {"grader": "string_check"}, "evaluation": EVALUATION}
SAMPLE: dict[str, Any] = GRADED | {"phases": ["iterate"], "iterate": {"strategy": "sample", "keep": 2}}


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


class Recorded(World):
    """Remembers what was trained on, and which kinds of steps ran. A right answer may be written in several ways."""

    def __init__(self, base_skill: float = 0.5, **more: Any):
        super().__init__(base_skill, train=self._note, **more)
        self.trained: list[StepRequest] = []
        self.kinds: set[StepKind] = set()

    def _note(self, request: StepRequest, before: float) -> float:
        self.trained.append(request)
        return 0.9

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        self.kinds.add(request.kind)
        return await super().run(job, key, request, limit, on_progress)

    @property
    def asks_strong_models(self) -> bool:
        return any(kind.queue == "strong" or kind is StepKind.REVIEW for kind in self.kinds)


def some(train: int = 40, **more: Any):
    return questions(train, dev=12, test=12, **more)


async def test_samples_that_pass_are_learned_and_no_strong_model_is_asked(simulation: Simulation):
    world = Recorded(0.5)
    report = await simulation.job(world, some(), **SAMPLE)
    assert not world.asks_strong_models
    assert StepKind.REASON not in world.kinds
    (training,) = world.trained
    assert all(row["completion"] == f"right {row['id']}" for row in training.rows)
    (record,) = report["phases"]["iterate"]["rounds"]
    drawn = record["sampled"]
    assert record["passed"] == drawn["kept"] == len(training.rows) > 30
    assert (drawn["questions"], drawn["verified"], drawn["samples"]) == (40, 40, 8)
    assert [*drawn["pass_at"]] == ["1", "2", "4", "8"]
    assert drawn["pass_at"]["1"] == pytest.approx(0.5, abs=0.1)
    assert drawn["pass_at"]["8"] > 0.9
    assert record["pass_rate"] == record["asked_by_try"] == []
    whole = read_report(report)
    for shown in (as_markdown(whole), page(whole)):
        assert "8 samples each of 40 questions; pass@1" in shown


async def test_the_base_is_trained_anew_on_what_passed_and_phase_1_with_its_epochs(simulation: Simulation):
    world = Recorded(0.5)
    spec: dict[str, Any] = SAMPLE | {
        "phases": ["distill", "iterate"],
        "guidance": "none",
        "distill": {"questions": 10, "epochs": 2},
        "iterate": {"strategy": "sample", "rounds": 2},
    }
    report = await simulation.job(world, some(), **spec)
    first, second, *_ = world.trained
    params = TrainParams.model_validate(second.params)
    assert params.model.adapter is None
    assert (params.epochs, params.learning_rate) == (2, TrainParams.model_validate(first.params).learning_rate)
    kept = report["phases"]["iterate"]["rounds"][0]["sampled"]["kept"]
    assert len(second.rows) == 10 + kept


async def test_questions_of_phase_1_are_sampled_too_and_not_counted(simulation: Simulation):
    world = Recorded(0.5)
    spec: dict[str, Any] = SAMPLE | {
        "phases": ["distill", "iterate"],
        "guidance": "none",
        "distill": {"questions": 15},
        "iterate": {"strategy": "sample", "questions": 10, "reuse_questions": True},
    }
    report = await simulation.job(world, some(), **spec)
    first, second = world.trained
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["questions"] == record["sampled"]["questions"] == 10
    learned = [(row["id"], row["completion"]) for row in second.rows]
    assert len(learned) == len(set(learned)), "a sample that phase 1 has taught already stands there once"
    assert {row["id"] for row in first.rows} <= {row["id"] for row in second.rows}


async def test_few_references_are_phase_1_and_what_agrees_on_the_other_questions_extends_them(simulation: Simulation):
    world, rows = Recorded(0.9), some(40)
    bare = {row.id for row in rows if row.split is Split.TRAIN} - {f"train-{n}" for n in range(0, 40, 4)}
    rows = [row.model_copy(update={"reference": None}) if row.id in bare else row for row in rows]
    spec: dict[str, Any] = SAMPLE | {
        "phases": ["distill", "iterate"],
        "distill": {"questions": 10, "answers": "references"},
        "iterate": {"strategy": "sample", "keep": 1},
    }
    report = await simulation.job(world, rows, **spec)
    first, second = world.trained
    assert not world.asks_strong_models
    assert len(first.rows) == 10
    assert not bare & {row["id"] for row in first.rows}
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["questions"] == 30 >= record["passed"] > 20
    assert len(second.rows) == 10 + record["passed"]


async def test_hints_only_where_no_sample_passed(simulation: Simulation):
    world = Recorded(0.1)
    spec: dict[str, Any] = SAMPLE | {"iterate": {"strategy": "both", "samples": 4}}
    report = await simulation.job(world, some(), **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    unpassed = record["asked_by_try"][0]
    assert 0 < unpassed < 40
    assert record["passed"] > 40 - unpassed
    passed_by_samples = round(record["sampled"]["pass_at"]["4"] * 40)
    assert unpassed == 40 - passed_by_samples


@pytest.mark.parametrize("strategy", ["sample", "both"])
async def test_the_teacher_answers_what_never_passed_where_the_job_asks_for_it(simulation: Simulation, strategy: str):
    world = Recorded(0.05)
    spec: dict[str, Any] = SAMPLE | {
        "iterate": {"strategy": strategy, "samples": 2, "tries": 1, "on_failure": "teacher"}
    }
    report = await simulation.job(world, some(), **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["corrected"] > 20
    assert record["corrected"] + record["passed"] == 40


async def test_without_references_the_answer_that_most_samples_agree_on_passes(simulation: Simulation):
    world = Recorded(0.7)
    report = await simulation.job(world, some(references=False), **SAMPLE)
    assert not world.asks_strong_models
    (record,) = report["phases"]["iterate"]["rounds"]
    drawn = record["sampled"]
    assert (drawn["verified"], drawn["pass_at"]) == (0, {})
    assert drawn["agreed"] == pytest.approx(0.7, abs=0.1)
    assert 20 < record["passed"] < 40, "only what more than half of the samples say"
    (training,) = world.trained
    assert all(row["completion"].startswith("right") for row in training.rows)


async def test_without_references_the_judge_verifies_where_the_job_says_so(simulation: Simulation):
    world = Recorded(0.4)
    world.verdict = lambda row: Verdict(id=row["id"], passed=row["answer"].startswith("right"), by="judge")
    spec: dict[str, Any] = SAMPLE | {"iterate": {"strategy": "sample", "without_reference": "judge", "samples": 4}}
    report = await simulation.job(world, some(references=False), **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["sampled"]["verified"] == 40
    assert record["sampled"]["pass_at"]["1"] == pytest.approx(0.4, abs=0.15)


async def test_what_was_cut_off_passes_never_and_is_counted(simulation: Simulation):
    world = Recorded(1.0)
    world.spoil = lambda key, one: one.model_copy(update={"finish_reason": "length"}) if "samples" in key else one
    report = await simulation.job(world, some(), **SAMPLE)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["passed"], record["sampled"]["cut_off"]) == (0, 40 * 8)
    assert not world.trained


async def test_a_closed_gate_is_told(simulation: Simulation):
    world = Recorded(1.0)
    report = await simulation.job(world, some(), **SAMPLE)
    (line,) = [warning for warning in report["warnings"] if "above pass@1" in warning]
    assert "phase 2, round 1: pass@8 is only 0 points above pass@1" in line
    assert any("above pass@1" in event.message for event in simulation.stores.jobs.events(report["job"]))


VERIFIED: dict[str, Any] = GRADED | {"phases": ["evolve"], "evolve": {"strategy": "verified"}}


async def test_passing_against_failing_samples_with_some_questions_held_out(simulation: Simulation):
    world = Recorded(0.5)
    report = await simulation.job(world, some(100), **VERIFIED)
    assert not world.asks_strong_models
    assert StepKind.SEARCH not in world.kinds
    (training,) = world.trained
    params = TrainParams.model_validate(training.params)
    assert (params.learning_rate, params.sft_weight) == (5e-5, 1.0)
    assert all(row["chosen"].startswith("right") and row["rejected"].startswith("wrong") for row in training.rows)
    (turn,) = report["phases"]["evolve"]["turns"]
    assert turn["pairs"] == len(training.rows) > 200
    aside = {row["id"] for row in training.rows if row.get("held_out")}
    assert 5 < len(aside) < 20
    assert not aside & {row["id"] for row in training.rows if not row.get("held_out")}
    assert turn["sampled"]["pass_at"]["1"] == pytest.approx(0.5, abs=0.1)


async def test_questions_without_a_passing_sample_learn_from_their_reference_where_the_job_says_so(
    simulation: Simulation,
):
    base, evolve = 0.1, {"strategy": "verified", "samples": 4}
    spec: dict[str, Any] = VERIFIED | {"evolve": evolve}
    without = Recorded(base)
    report = await simulation.job(without, some(100), **spec)
    (turn,) = report["phases"]["evolve"]["turns"]
    dropped = turn["dropped"]
    assert turn.get("from_references") is None
    assert not any(row.get("from_reference") for row in without.trained[0].rows)

    world = Recorded(base)
    spec |= {"evolve": evolve | {"unsolved": "reference"}}
    report = await simulation.job(world, some(100), "other", **spec)
    assert not world.asks_strong_models
    (turn,) = report["phases"]["evolve"]["turns"]
    rows = world.trained[0].rows
    made = [row for row in rows if row.get("from_reference")]
    assert all(row["chosen"] == f"right {row['id']}" and row["rejected"].startswith("wrong") for row in made)
    assert turn["from_references"] == {"questions": len({row["id"] for row in made}), "pairs": len(made)}
    assert turn["from_references"]["questions"] == dropped["none_passes"] > 40
    assert turn["dropped"] == {}
    sampled = [(row["id"], row["chosen"], row["rejected"]) for row in rows if not row.get("from_reference")]
    assert sampled == [(row["id"], row["chosen"], row["rejected"]) for row in without.trained[0].rows]
    words = f"{len(made)} of the pairs prefer the reference, for {dropped['none_passes']} questions"
    assert words in as_markdown(read_report(report))


async def test_most_against_least_agreed_on_with_the_margin_of_votes(simulation: Simulation):
    world = Recorded(0.7)
    spec: dict[str, Any] = VERIFIED | {"evolve": {"strategy": "agreement", "turns": 2, "pairs_per_question": 1}}
    report = await simulation.job(world, some(100, references=False), **spec)
    assert not world.asks_strong_models
    weights = {row["weight"] for row in world.trained[0].rows}
    assert weights <= {(n - 1) / 8 for n in range(5, 9)}
    assert len(weights) > 1
    turns = report["phases"]["evolve"]["turns"]
    assert len(turns) == len(world.trained) == 2
    assert turns[0]["dropped"]["no_agreement"] > 0
    assert turns[0]["pairs"] + sum(turns[0]["dropped"].values()) == 100
    assert world.trained[0].params["model"] != world.trained[1].params["model"], (
        "each turn begins with the last one's student"
    )


async def test_pairs_of_earlier_phases_questions_where_the_job_says_so(simulation: Simulation):
    world = Recorded(0.5)
    spec: dict[str, Any] = VERIFIED | {
        "phases": ["distill", "evolve"],
        "guidance": "none",
        "distill": {"questions": 20},
        "evolve": {"strategy": "verified", "questions": 20, "reuse_questions": True, "held_out": 0, "samples": 32},
    }
    report = await simulation.job(world, some(), **spec)
    (turn,) = report["phases"]["evolve"]["turns"]
    assert turn["questions"] == turn["sampled"]["questions"] == 20
    assert len({row["id"] for row in world.trained[1].rows}) > 20
