"""Decisions over whole jobs: the pilot's, the rounds', promotion. Real orchestration and database, pretended workers."""

from pathlib import Path
from typing import Any

import pytest

from shared.contracts.distillation import Phase
from shared.contracts.errors import FatalError
from shared.contracts.grader_kinds import Grader
from shared.contracts.rows import Grades, Verdict
from shared.contracts.steps import (
    AdapterConfig,
    Method,
    StepRequest,
    TrainParams,
)
from shared.jobs.catalog import ref_of
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.simulated import WRONG, Simulation, World, draw, questions

DISTILL: dict[str, Any] = {"phases": ["distill"], "evaluation": {"baselines": []}}


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


def better(request: StepRequest, before: float) -> float:
    return 0.95


def guided(row: dict) -> bool:
    return row["guideline"] is not None


# the pilot


@pytest.mark.parametrize(
    ("share_right", "decision", "guidance"),
    [((0.1, 0.9), "promoted", "weak"), ((0.9, 0.1), "rejected", "none"), ((0.6, 0.6), "undecided", "none")],
)
async def test_the_pilot_chooses_what_it_measured(simulation: Simulation, share_right, decision, guidance):
    world = World()

    def teacher(row):
        right = draw("teacher", row["id"]) < share_right[guided(row)]
        return row["reference"] if right else WRONG, "ok"

    world.teacher = teacher
    world.nll = lambda row: 1.0 if row["id"].startswith("1:") else 2.0 + 0.1 * draw(row["id"])
    report = await simulation.job(world, questions(), pilot={"questions": 32}, **DISTILL)
    pilot = report["phases"]["pilot"]
    assert (pilot["decision"], pilot["guidance"]) == (decision, guidance)
    assert pilot["usable"] == {"none": 32, "weak": 32}
    assert pilot["student_nll"]["guided"] == 1.0
    assert pilot["student_nll"]["change"][2] < -0.9
    assert report["phases"]["distill"]["guidance"] == guidance
    written = any(key.startswith("distill/guidelines") for key in world.keys)
    assert written == (guidance == "weak")


async def test_without_references_the_judge_compares(simulation: Simulation):
    world = World()
    world.teacher = lambda row: ("guided" if guided(row) else "plain", "ok")
    world.judge = lambda a, b: "A" if a == "guided" else "B"
    report = await simulation.job(world, questions(references=False), **DISTILL)
    assert report["phases"]["pilot"]["guidance"] == "weak"
    assert report["phases"]["pilot"]["gain"][0] == 1


async def test_best_keeps_the_better_answer_of_each_question(simulation: Simulation):
    seen: list[StepRequest] = []

    def train(request: StepRequest, before: float) -> float:
        seen.append(request)
        return before

    world = World(train=train)
    world.teacher = lambda row: (row["reference"] if guided(row) == (row["id"].endswith("1")) else WRONG, "ok")
    await simulation.job(world, questions(), guidance="best", **DISTILL)
    (request,) = seen
    assert len(request.rows) == 60
    assert all(row["completion"] == f"right {row['id']}" for row in request.rows)


@pytest.mark.parametrize("guidance", ["auto", "weak", "none"])
async def test_a_teacher_that_refuses_stops_the_job_at_once(simulation: Simulation, guidance: str):
    world = World()
    world.teacher = lambda row: ("I'm sorry, I can't help with that.", "refused")
    with pytest.raises(FatalError) as error:
        await simulation.job(world, questions(), guidance=guidance, **DISTILL)
    assert error.value.code == "teacher_unfit"
    assert error.value.param == "distillation.teacher"
    assert "I can't help" in error.value.message
    assert "refused" in error.value.message
    asked = [key for key in world.keys if "/answers/" in key]
    assert len(asked) == 1, "it was asked again after nothing could be used"


async def test_a_teacher_whose_answers_never_pass_stops_the_job(simulation: Simulation):
    world = World()
    world.teacher = lambda row: ("something else", "ok")
    with pytest.raises(FatalError) as error:
        await simulation.job(world, questions(), judge={"grader": "string_check"}, **DISTILL)
    assert error.value.code == "teacher_unfit"
    assert "scored 0.00" in error.value.message


async def test_the_gate_goes_by_the_judges_grader_whatever_the_primary_metric(simulation: Simulation):
    """The pass mark belongs to the grader that the job names for phase 2."""

    class TwoGraders(World):
        def _grade(self, key, request, adapter, row):
            return Grades(id=row["id"], scores={**dict.fromkeys(Grader, 0.0), "chrf": 0.8})

    spec: dict[str, Any] = DISTILL | {"guidance": "none", "judge": {"grader": "chrf", "pass_mark": 0.7}}
    report = await simulation.job(TwoGraders(), questions(), **spec)
    assert report["phases"]["pilot"]["usable"] == {"none": 16}
    strict: dict[str, Any] = spec | {"judge": {"grader": "rouge_l"}}
    with pytest.raises(FatalError) as error:
        await simulation.job(TwoGraders(), questions(), suffix="strict", **strict)
    assert error.value.code == "teacher_unfit"


async def test_planted_errors_are_counted(simulation: Simulation):
    world = World()
    world.teacher = lambda row: ("", "refused") if row["id"].endswith("7") else (row["reference"], "ok")
    report = await simulation.job(world, questions(), guidance="none", **DISTILL)
    assert report["phases"]["distill"]["dropped"] == {"refused": 6}
    assert report["phases"]["distill"]["kept"] == 54


async def test_the_references_may_stand_in_for_the_teacher(simulation: Simulation):
    """Nobody is asked, there is no pilot, and what has no reference is dropped and counted."""
    world = World(0.3, train=better)
    rows = questions(train=30)
    rows[0] = rows[0].model_copy(update={"reference": None})
    report = await simulation.job(world, rows, distill={"answers": "references"}, **DISTILL)
    distill = report["phases"]["distill"]
    assert (distill["kept"], distill["dropped"], distill["guidance"]) == (29, {"no_reference": 1}, None)
    assert "pilot" not in report["phases"]
    assert not [key for key in world.keys if "distill" in key and "train" not in key and "evaluate" not in key]
    assert report["promotion"]["state"] == "promoted"


# rounds


ROUNDS: dict[str, Any] = {
    "phases": ["iterate"],
    "iterate": {"rounds": 3, "tries": 2, "on_failure": "teacher"},
    "evaluation": {"baselines": []},
}


async def test_rounds_go_on_as_long_as_dev_gains(simulation: Simulation):
    skills = iter([0.6, 0.8, 1.0])
    world = World(0.4, train=lambda request, before: next(skills))
    report = await simulation.job(world, questions(), **ROUNDS)
    rounds = report["phases"]["iterate"]["rounds"]
    assert [r["questions"] for r in rounds] == [20, 20, 20]
    assert [r["dev"]["kept"] for r in rounds] == [True, True, True]
    assert report["promotion"]["state"] == "promoted"


async def test_a_harmful_round_is_undone_and_the_rounds_end(simulation: Simulation):
    skills = iter([0.9, 0.1])
    world = World(0.4, train=lambda request, before: next(skills))
    report = await simulation.job(world, questions(), **ROUNDS)
    rounds = report["phases"]["iterate"]["rounds"]
    assert [r["dev"]["kept"] for r in rounds] == [True, False]
    final = report["final"]["adapter"]
    assert world.skills[final] == 0.9
    assert report["promotion"]["state"] == "promoted"


async def test_train_from_base_retrains_on_all_that_was_gathered(simulation: Simulation):
    seen: list[StepRequest] = []

    def train(request: StepRequest, before: float) -> float:
        seen.append(request)
        return 0.1 + 0.3 * len(seen)

    spec = ROUNDS | {
        "phases": ["distill", "iterate"],
        "guidance": "none",
        "distill": {"questions": 20},
        "iterate": {"questions": 40, "rounds": 2, "on_failure": "teacher", "train_from": "base"},
    }
    await simulation.job(World(0.3, train=train), questions(), **spec)
    assert [len(request.rows) for request in seen] == [20, 40, 60]
    assert all(request.params["model"]["adapter"] is None for request in seen)


async def test_all_right_at_the_first_try_and_none_ever(simulation: Simulation):
    spec: dict[str, Any] = ROUNDS | {"iterate": {"rounds": 1, "tries": 3}}
    easy = await simulation.job(World(1.0), questions(), suffix="easy", **spec)
    (record,) = easy["phases"]["iterate"]["rounds"]
    assert record["pass_rate"] == [1.0, 1.0, 1.0]
    assert record["asked_by_try"] == [60, 0, 0]
    hard = await simulation.job(World(0.0), questions(), suffix="hard", **spec)
    (record,) = hard["phases"]["iterate"]["rounds"]
    assert (record["passed"], record["asked_by_try"]) == (0, [60, 60, 60])
    nothing = {
        "state": "rejected",
        "against": "base",
        "model": None,
        "gain": None,
        "forgetting": None,
        "look": 1,
        "level": 0.95,
    }
    assert hard["promotion"] == nothing


async def test_each_round_stands_in_the_table(simulation: Simulation):
    skills = iter([0.7, 0.9, 0.1])
    world = World(0.4, train=lambda request, before: next(skills))
    report = await simulation.job(world, questions(), **ROUNDS)
    assert [row["name"] for row in report["table"]] == ["base", "iterate-1", "iterate-2", "iterate-3", "iterate"]
    by_name = {row["name"]: row for row in report["table"]}
    assert by_name["iterate"]["adapter"] == by_name["iterate-2"]["adapter"] == report["final"]["adapter"]
    assert by_name["iterate-3"]["gain_over_base"][0] < 0 < by_name["iterate-1"]["gain_over_base"][0]


@pytest.mark.parametrize(
    ("grader", "corrected", "dropped"), [("string_check", 30, {"below_pass_mark": 30}), (None, 60, {})]
)
async def test_corrections_are_held_to_the_grader(simulation: Simulation, grader, corrected: int, dropped: dict):
    """The teacher is wrong on every second question. Without a grader nobody knows."""
    trained: list[list[str]] = []
    world = World(
        0.0, train=lambda request, before: trained.append([row["completion"] for row in request.rows]) or before
    )
    world.teacher = lambda row: (row["reference"] if int(row["id"].split("-")[1]) % 2 else f"{WRONG} {row['id']}", "ok")
    spec: dict[str, Any] = ROUNDS | {"iterate": {"tries": 1, "on_failure": "teacher"}, "judge": {"grader": grader}}
    report = await simulation.job(world, questions(), **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["corrected"], record["dropped_corrections"]) == (corrected, dropped)
    assert sum(text.startswith(WRONG) for text in trained[0]) == 60 - 30 - sum(dropped.values())


async def test_what_has_no_reference_is_corrected_without_a_grader(simulation: Simulation):
    world = World(0.0)
    world.teacher = lambda row: (f"answer to {row['id']}", "ok")
    world.verdict = lambda row: Verdict(id=row["id"], passed=False, by="judge")
    spec: dict[str, Any] = ROUNDS | {
        "iterate": {"tries": 1, "on_failure": "teacher"},
        "judge": {"grader": "string_check"},
    }
    report = await simulation.job(world, questions(references=False), **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["corrected"], record["dropped_corrections"]) == (60, {})


# the table


async def test_draws_of_examples_are_averaged_question_by_question(simulation: Simulation):
    world = World(0.5)
    spec: dict[str, Any] = DISTILL | {
        "evaluation": {"shot_seeds": 3, "baselines": ["few_shot", "few_shot_nearest"], "shots": 2}
    }
    report = await simulation.job(world, questions(train=12), **spec)
    by_name = {row["name"]: row for row in report["table"]}
    assert list(by_name) == ["base", "few_shot", "few_shot_nearest", "distill"]
    assert (by_name["few_shot"]["draws"], by_name["few_shot_nearest"]["draws"]) == (3, 1)
    drawn = [key for key in world.keys if key.startswith("evaluate/test/few_shot-")]
    assert {key.split("/")[2] for key in drawn} == {"few_shot-1", "few_shot-2"}
    base = by_name["base"]["scores"]
    assert by_name["few_shot"]["scores"] == pytest.approx(base)  # this student does not look at examples


async def test_wins_ties_and_losses_add_up_and_agree_with_the_gain(simulation: Simulation):
    report = await simulation.job(World(0.3, train=better), questions(), **DISTILL)
    record = report["final"]["record"]["base"]
    assert sum(record.values()) == 60
    gain = report["final"]["over"]["base"][0]
    assert report["final"]["by_metric"]["base"][report["primary_metric"]] == report["final"]["over"]["base"]
    assert set(report["final"]["by_metric"]["base"]) == set(report["table"][0]["metrics"])
    assert report["dev"]["value"][0] == pytest.approx(sum(report["dev"]["scores"]) / report["dev"]["n"])
    assert (record["win"] - record["loss"]) / 60 == pytest.approx(gain, abs=1e-6)
    row = next(row for row in report["table"] if row["name"] == "distill")
    assert row["against_base"] == record
    power = report["power"]
    assert 0 < power["chance_to_see_5_points"] < 1
    assert power["questions_for_80_percent"] > 60


# forgetting


def specialist(world: World) -> None:
    """Trained students know none of the general questions any more."""
    world.forgets = lambda adapter, question_id: adapter is not None and question_id.startswith("general-")


@pytest.mark.parametrize(("margin", "state"), [(None, "promoted"), (0.1, "undecided"), (0.9, "promoted")])
async def test_what_was_forgotten_is_told_and_may_forbid_a_promotion(simulation: Simulation, margin, state):
    world = World(0.6, train=better)
    specialist(world)
    spec = {"phases": ["distill"], "evaluation": {"baselines": [], "forgetting": 120, "forgetting_margin": margin}}
    report = await simulation.job(world, questions(), **spec)
    forgetting = report["promotion"]["forgetting"]
    assert (forgetting["n"], forgetting["final"][0]) == (120, 0.0)
    assert forgetting["base"][0] == pytest.approx(0.6, abs=0.15)
    assert forgetting["change"][2] < -0.4
    assert forgetting["guarded"] == (margin == 0.1)
    assert report["promotion"]["state"] == state
    served = simulation.stores.catalog.served("proj_default", "expert")
    assert (served is not None) == (state == "promoted")


async def test_without_general_questions_none_is_asked(simulation: Simulation):
    world = World(0.6, train=better)
    spec = {"phases": ["distill"], "evaluation": {"baselines": [], "forgetting": 0}}
    report = await simulation.job(world, questions(), **spec)
    assert report["promotion"]["forgetting"] is None
    assert not [key for key in world.keys if "general" in key]


# promotion


async def test_each_further_look_at_a_dev_split_must_be_surer(simulation: Simulation, monkeypatch: pytest.MonkeyPatch):
    """Of one alias and one dataset; another dataset is looked at for the first time, and a job posted again is no other look."""
    file_id = simulation._file()
    monkeypatch.setattr(simulation, "_file", lambda: file_id)
    looks, world = [], World(0.3, train=better)
    for seed in (1, 2, 3, 3):
        report = await simulation.job(world, questions(), seed=seed, **DISTILL)
        looks.append((report["promotion"]["look"], report["promotion"]["level"]))
    assert [look for look, _ in looks] == [1, 2, 3, 3]
    assert looks[0][1] == 0.95 < looks[1][1] < looks[2][1] == looks[3][1]
    monkeypatch.undo()
    report = await simulation.job(world, questions(), seed=4, **DISTILL)
    assert report["promotion"]["look"] == 1


async def test_a_worse_successor_leaves_the_former_version_served(simulation: Simulation):
    first = await simulation.job(World(0.3, train=better), questions(), **DISTILL)
    assert first["promotion"]["state"] == "promoted"
    worse = World(0.3, train=lambda request, before: 0.5)
    worse.skills[first["final"]["adapter"]] = 0.95
    second = await simulation.job(worse, questions(), seed=1, **DISTILL)
    assert second["promotion"]["state"] == "rejected"
    assert second["promotion"]["against"] == "served"
    served = simulation.stores.catalog.served("proj_default", "expert")
    assert served is not None
    assert served.adapter == first["final"]["adapter"]


async def test_jobs_without_a_true_gain_are_hardly_ever_promoted(simulation: Simulation):
    """200 jobs whose training changes which questions are right, but not how many in the mean."""
    rows = questions(train=12, dev=60, test=10)
    promoted = 0
    for seed in range(200):
        world = World(0.5)
        world.salt = seed
        report = await simulation.job(
            world,
            rows,
            suffix=f"s{seed}",
            seed=seed,
            phases=[phase.value for phase in Phase],
            guidance="none",
            pilot={"questions": 4},
            distill={"questions": 4},
            iterate={"questions": 4, "tries": 1},
            evolve={"questions": 4},
            evaluation={"baselines": [], "graders": ["string_check"], "forgetting": 0},
        )
        promoted += report["promotion"]["state"] == "promoted"
    assert promoted <= 0.05 * 200, f"{promoted} of 200"


async def test_evolve_makes_no_call_and_ends_where_both_sides_agree(simulation: Simulation):
    world = World(0.0)  # never right: greedy and search agree everywhere
    report = await simulation.job(world, questions(), phases=["evolve"], evaluation={"baselines": []})
    (turn,) = report["phases"]["evolve"]["turns"]
    assert turn["dropped"] == {"identical": 60}
    assert "evolve" not in report["teacher"]
    assert not any(key.startswith(("distill", "iterate")) for key in world.keys)
    assert report["promotion"]["state"] == "rejected"


# all weights


async def test_a_full_job_trains_and_publishes_whole_models(simulation: Simulation):
    trained: list[TrainParams] = []

    def train(request: StepRequest, before: float) -> float:
        trained.append(TrainParams.model_validate(request.params))
        return min(1.0, before + 0.4)

    world = World(0.2, train=train)
    spec = {"guidance": "none", "adapter": {"method": "full", "rank": 64}, "evaluation": {"baselines": []}}
    report = await simulation.job(world, questions(), **spec)
    distill, iterate, evolve = trained
    assert {params.method for params in trained} == {Method.FULL}
    assert [params.learning_rate for params in trained] == [3e-5, 3e-5, 1e-5]
    assert distill.adapter.rank == AdapterConfig().rank  # a setting that is not read is no part of the step
    assert distill.model.tuned is None
    assert iterate.model.weights
    assert evolve.model.weights not in (None, iterate.model.weights)
    assert iterate.model.adapter is evolve.model.adapter is None
    assert report["method"] == "full"
    row = simulation.stores.catalog.resolve(DEFAULT_PROJECT, report["promotion"]["model"])
    assert (row.method, row.adapter) == ("full", report["final"]["adapter"])
    assert ref_of(row).served_by == row.adapter
