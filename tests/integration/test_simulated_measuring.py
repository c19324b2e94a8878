"""What measures a student over whole jobs: the same seed repeats it all; without references the judge measures. Real
orchestration, pretended workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.method.pipeline import meteor
from services.orchestrator.method.run import DistillationRun
from shared.contracts.data import Question, Split, judge_must_decide
from shared.contracts.distillation import Distillation
from shared.contracts.jobs import JobProgress
from shared.contracts.rows import StudentCompletion
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult, content_hash
from shared.jobs.tables import DEFAULT_PROJECT
from shared.plan.plan import ORDERS, JudgeUse, Sizes, make_plan
from tests.fakes.simulated import Simulation, World, draw, questions

EVERYTHING: dict[str, Any] = {
    "guidance": "auto",
    "pilot": {"questions": 8},
    "iterate": {"rounds": 2, "tries": 2, "on_failure": "teacher"},
    "evolve": {"turns": 2, "strategy": "best_of_n"},
    "evaluation": {
        "shot_seeds": 2,
        "judged_questions": 20,
        "dev_questions": 30,
        "test_questions": 30,
        "forgetting": 16,
    },
}


class Recording(World):
    """Keeps each step's identity: what a worker would be asked."""

    def __init__(self, base_skill: float = 0.4):
        super().__init__(base_skill, train=lambda request, before: min(1.0, before + 0.2))
        self.asked: dict[str, str] = {}
        self.seeds: dict[str, int] = {}

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        self.asked[str(key)] = content_hash(request.model_dump(mode="json"))
        seed = request.params.get("seed", request.params.get("sampling", {}).get("seed"))
        self.seeds |= {} if seed is None else {str(key): seed}
        return await super().run(job, key, request, limit, on_progress)


async def test_the_same_seed_asks_the_same_and_reports_the_same(tmp_path: Path):
    """Every step, trainings included, has the same identity, whatever the order of the file's rows."""

    async def once(folder: str, seed: int, order: int = 1) -> tuple[dict[str, str], dict[str, Any]]:
        world = Recording()
        report = await Simulation(tmp_path / folder).job(world, questions()[::order], seed=seed, **EVERYTHING)
        apart = ("job", "timings")  # a job's own name, and the clock
        return world.asked, {name: value for name, value in report.items() if name not in apart}

    asked, report = await once("first", 1)
    assert {key.partition("/")[0] for key in asked} == {"pilot", "distill", "iterate", "evolve", "evaluate"}
    assert await once("second", 1, order=-1) == (asked, report)
    other, other_report = await once("third", 2)
    assert not set(asked.values()) & set(other.values()), "with another seed no step is the same"
    assert other_report["table"] != report["table"]


async def test_every_step_that_takes_a_seed_takes_the_jobs(tmp_path: Path):
    """Other questions alone would make other steps; so it is the seeds that are compared."""
    seeds = []
    for seed in (10, 20):
        world = Recording()
        await Simulation(tmp_path / str(seed)).job(world, questions(), seed=seed, **EVERYTHING)
        seeds.append(world.seeds)
    first, second = seeds
    assert set(first) >= {f"evaluate/{name}/answers/0" for name in ("dev/base", "test/distill", "general/final")}
    tries = {key: int(key.split("/")[2].removeprefix("try-")) for key in first if "/try-" in key and "/answers/" in key}
    assert first == {key: 10 + tries.get(key, 0) for key in first}
    assert second == {key: 20 + tries.get(key, 0) for key in second}


# questions without a reference


DISTILL: dict[str, Any] = {"phases": ["distill"], "guidance": "none", "evaluation": {"forgetting": 0}}


def fair(a: str, b: str) -> str:
    right = [answer.startswith("right") for answer in (a, b)]
    return "tie" if right[0] == right[1] else "AB"[right[1]]


def judged_job(world: World) -> World:
    world.teacher = lambda row: (f"answer to {row['id']}", "ok")
    world.judge = fair
    return world


def bare(**sizes: int) -> list[Question]:
    return questions(**sizes, references=False, measured_by_references=False)


def without_reference(rows: list[Question], taken: Callable[[int], bool]) -> list[Question]:
    """Those of dev and test whose number is taken lose theirs."""
    return [
        row.model_copy(update={"reference": None})
        if row.split is not Split.TRAIN and taken(int(row.id.split("-")[1]))
        else row
        for row in rows
    ]


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


def events(simulation: Simulation, report: dict[str, Any]) -> list[str]:
    row = simulation.stores.jobs.get(report["job"])
    assert row is not None
    events_of_job = simulation.stores.jobs.events(row.id)
    return [event.message for event in events_of_job if event.level == "warn"]


@pytest.mark.parametrize(
    ("before", "after", "decision", "state"),
    [(0.2, 0.9, "promoted", "promoted"), (0.9, 0.2, "rejected", "rejected"), (0.5, 0.5, "undecided", "undecided")],
)
async def test_without_any_reference_the_judge_decides(simulation: Simulation, before, after, decision, state):
    world = judged_job(World(before, train=lambda request, skill: after))
    report = await simulation.job(world, bare(), **DISTILL)
    assert [decided["decision"] for decided in report["decisions"]] == [decision]
    beside_base = report["table"][1]["gain_over_base"][0]
    told = report["final"]["over"]["distill" if decision == "rejected" else "base"][0]
    assert told == pytest.approx(-beside_base if decision == "rejected" else beside_base, abs=1e-6)
    assert report["promotion"]["state"] == state
    assert report["primary_metric"] == "judge"
    assert report["measured"]["by"] == "judge"
    assert report["measured"]["without_reference"] == {"train": 60, "dev": 60, "test": 60}
    assert [row["name"] for row in report["table"]] == ["base", "distill"], "nothing to show in a prompt or to train on"
    base, distill = report["table"]
    assert base["metrics"]["judge"][0] == 0.5
    record = distill["against_base"]
    gain = (record["win"] - record["loss"]) / 60 / 2
    assert distill["gain_over_base"][0] == pytest.approx(gain, abs=1e-6)
    assert record["win"] + record["loss"] >= 20
    assert not any("/grades/" in key for key in world.keys)
    assert any("the judge decides" in message for message in events(simulation, report))


async def test_a_judge_that_always_says_a_promotes_nothing(simulation: Simulation):
    world = judged_job(World(0.1, train=lambda request, skill: 0.95))
    world.judge = lambda a, b: "A"
    report = await simulation.job(world, bare(), **DISTILL)
    assert report["promotion"]["state"] == "undecided"
    measured = report["measured"]
    assert measured["flipped"] == measured["compared"] > 80
    assert measured["unparsed"] == 0


async def test_equal_answers_are_ties_without_asking(simulation: Simulation):
    world = judged_job(World(0.5, train=lambda request, skill: skill))
    world.right_answer = world.wrong_answer  # every student always says the same
    report = await simulation.job(world, bare(), **DISTILL)
    assert not any("/preferences/" in key for key in world.keys)
    assert report["promotion"]["state"] == "undecided"
    assert report["measured"]["compared"] == 0


async def test_rounds_end_by_the_judge_too(simulation: Simulation):
    skills = iter([0.9, 0.1])
    world = judged_job(World(0.3, train=lambda request, skill: next(skills)))
    spec: dict[str, Any] = {"phases": ["iterate"], "iterate": {"rounds": 3, "on_failure": "teacher"}}
    report = await simulation.job(world, bare(), **spec)
    assert [record["dev"]["kept"] for record in report["phases"]["iterate"]["rounds"]] == [True, False]
    assert world.skills[report["final"]["adapter"]] == 0.9


def named_answers(key: str, completion: StudentCompletion) -> StudentCompletion:
    """Each student answers in its own words."""
    student = StepKey.parse(key).student
    return completion.model_copy(update={"answer": f"{student} {completion.id}"}) if student else completion


def better_students(a: str, b: str) -> str:
    """All are preferred to the base; of the others the later one is, in most answers."""
    order = ["base", "distill", "served", "evolve"]
    (first, row), (second, _) = a.split(), b.split()
    worse, better = sorted((first, second), key=order.index)
    wins = better if worse == "base" or draw(row) < 0.75 else worse
    return "AB"[wins == second]


TWO_PHASES: dict[str, Any] = DISTILL | {"phases": ["distill", "evolve"]}


async def test_students_that_both_beat_the_base_everywhere_are_told_apart(simulation: Simulation):
    """Each compared with the base would have 1 everywhere, and no gain over the other."""
    world = judged_job(World(0.5, train=lambda request, skill: skill + 0.1))
    world.spoil, world.judge = named_answers, better_students
    report = await simulation.job(world, bare(), **TWO_PHASES)
    distill, evolve = report["decisions"]
    assert [(d["against"], d["decision"], d["n"]) for d in (distill, evolve)] == [
        ("base", "promoted", 60),
        ("distill", "promoted", 60),
    ]
    assert distill["record"] == {"win": 60, "tie": 0, "loss": 0}
    assert evolve["record"]["win"] + evolve["record"]["loss"] == 60
    assert evolve["gain_on_dev"][0] == pytest.approx((evolve["record"]["win"] / 60) - 0.5, abs=1e-6)
    assert report["final"]["over"]["distill"][1] > 0
    assert report["final"]["over"]["base"][0] == 0.5
    assert {row["name"]: row["gain_over_base"][0] for row in report["table"]} == {
        "base": 0,
        "distill": 0.5,
        "evolve": 0.5,
    }
    assert report["dev"]["value"][0] == 1
    served = await simulation.job(world, bare(), seed=1, **TWO_PHASES)
    assert served["promotion"]["against"] == "served"
    assert served["promotion"]["state"] == "promoted"
    assert served["promotion"]["record"]["loss"] > 0
    assert "evaluate/dev/evolve-over-served/preferences/0" in world.keys
    job = Distillation.model_validate({"domain": "d"} | TWO_PHASES)
    sizes = Sizes.of_splits(job, dict.fromkeys(Split, 60), without_reference=60, judge_measures=True)
    planned = make_plan(job, sizes).most_calls(JudgeUse.MEASURING)
    assert planned == 2 * ORDERS * served["measured"]["compared"], "all differ, and no reply was asked for twice"
    spent = {StepKey.parse(key).role.split("/")[1] for key in world.keys if "/preferences/" in key}
    assert spent == {"distill-over-base", "evolve-over-base", "evolve-over-distill", "evolve-over-served"}


async def test_a_job_that_began_by_comparing_with_the_base_goes_on_so(simulation: Simulation):
    world = judged_job(World(0.5, train=lambda request, skill: skill + 0.1))
    world.spoil, world.judge = named_answers, better_students
    run = begun(simulation, world, bare(), "evaluate/dev/distill/preferences/0", **TWO_PHASES)
    report = (await meteor(run.context, run)).model_dump(mode="json")
    assert [d["decision"] for d in report["decisions"]] == ["promoted", "undecided"]
    assert not any("evaluate/dev/evolve-over-distill" in key for key in world.keys)


def begun(simulation: Simulation, world: World, rows: list[Question], key: str, **spec: Any) -> DistillationRun:
    """A job that has a step of an earlier version already."""
    simulation.stores.jobs.create(DEFAULT_PROJECT, simulation.request(**spec))
    row = simulation.stores.jobs.claim("simulation", 3600)
    assert row is not None
    simulation.stores.steps.create(row, StepKey.parse(key), StepKind.ANSWER, "0" * 64)
    return simulation.new_run(row, world.run, rows)


# rounds and turns are chosen on one part of dev, and the rest decides


SEVERAL: dict[str, Any] = {
    "phases": ["iterate"],
    "iterate": {"rounds": 2, "on_failure": "teacher"},
    "evaluation": {"baselines": []},
}


async def test_rounds_are_chosen_on_a_part_of_dev_and_the_rest_decides(simulation: Simulation):
    world = World(0.3, train=lambda request, skill: min(1.0, skill + 0.3))
    report = await simulation.job(world, questions(), **SEVERAL)
    dev = report["dev"]
    assert dev["chosen_on"] + dev["n"] == 60
    assert len(dev["places"]) == dev["n"] == report["promotion"]["n"] == report["decisions"][0]["n"]
    measured = {
        key.rpartition("/answers/")[0] for key in world.keys if key.startswith("evaluate/dev/") and "/answers/" in key
    }
    assert measured == {f"evaluate/dev/{name}" for name in ("choice/iterate-0", "choice/iterate-1", "choice/iterate-2", "rest/base", "rest/iterate")}  # fmt: skip
    assert not any("too few for two parts" in warning for warning in report["warnings"])


async def test_a_dev_split_too_small_for_two_parts_stays_whole_and_the_report_warns(simulation: Simulation):
    report = await simulation.job(World(0.3, train=lambda request, skill: 0.9), questions(dev=40), **SEVERAL)
    assert report["dev"]["n"] == 40
    assert "chosen_on" not in report["dev"]
    assert any("dev's 40 measured questions are too few for two parts" in warning for warning in report["warnings"])
    one_round: dict[str, Any] = SEVERAL | {"iterate": {"rounds": 1, "on_failure": "teacher"}}
    report = await simulation.job(World(0.3), questions(dev=40), suffix="one", **one_round)
    assert not any("two parts" in warning for warning in report["warnings"]), "it makes no choice"


async def test_a_job_that_began_with_a_whole_dev_keeps_it(simulation: Simulation):
    world = World(0.3, train=lambda request, skill: 0.9)
    run = begun(simulation, world, questions(), "evaluate/dev/base/answers/0", **SEVERAL)
    report = await meteor(run.context, run)
    assert report.dev is not None
    assert report.dev.n == 60
    assert "evaluate/dev/iterate-0/answers/0" in world.keys


async def test_the_best_turn_is_kept(simulation: Simulation):
    skills = iter([0.9, 0.1, 0.2])
    world = World(0.4, train=lambda request, skill: next(skills))
    spec: dict[str, Any] = {"phases": ["evolve"], "evolve": {"turns": 3}, "evaluation": {"baselines": []}}
    report = await simulation.job(world, questions(), **spec)
    assert world.skills[report["final"]["adapter"]] == 0.9
    turns = report["phases"]["evolve"]["turns"]
    assert [turn.get("dev") and turn["dev"]["kept"] for turn in turns] == [None, False, False]
    assert report["promotion"]["state"] == "promoted"


async def test_the_judges_own_report_does_not_take_its_word_for_the_truth(simulation: Simulation):
    world = judged_job(World(0.2, train=lambda request, skill: 0.9))
    spec: dict[str, Any] = DISTILL | {"evaluation": {"judged_questions": 40, "judged_margin": 0.01, "forgetting": 0}}
    report = await simulation.job(world, bare(), **spec)
    assert report["judged"]["n"] == 40
    assert report["judged"]["judge"]["length_bias"] is None
    assert "measuring" in report["judge"]["rests_on_it"]


async def test_what_has_no_reference_is_counted_and_not_measured(simulation: Simulation):
    rows = without_reference(questions(), lambda number: number in (3, 13))
    report = await simulation.job(World(0.3, train=lambda request, skill: 0.9), rows, **DISTILL)
    assert report["measured"] == {"by": "references", "without_reference": {"train": 0, "dev": 2, "test": 2}}
    assert {row["n"] for row in report["table"]} == {58}
    assert events(simulation, report)[0].startswith(
        "2 of 60 questions of dev and 2 of 60 questions of test have no ref"
    )


async def test_a_cap_takes_questions_with_references_first(simulation: Simulation):
    rows = without_reference(questions(), lambda number: number % 2 == 1)
    spec: dict[str, Any] = DISTILL | {
        "evaluation": {"dev_questions": 20, "test_questions": 40, "baselines": [], "forgetting": 0}
    }
    report = await simulation.job(World(0.3), rows, **spec)
    assert report["measured"]["without_reference"] == {"train": 0, "dev": 0, "test": 10}
    assert report["table"][0]["n"] == 30


def test_the_judge_measures_only_where_there_are_not_two_references():
    assert not judge_must_decide(questions())
    assert not judge_must_decide(without_reference(questions(), lambda number: number > 1))
    assert judge_must_decide(without_reference(questions(), lambda number: number > 0))
    assert judge_must_decide(questions(dev=0))


@pytest.mark.parametrize("alike", [True, False])
async def test_what_the_judge_is_not_asked_falls_out_of_the_plan(simulation: Simulation, alike: bool):
    """Equal answers are ties without asking, so the rest is nearer than was planned."""
    world = judged_job(World(0.5, train=lambda request, skill: skill))
    world.right_answer = world.wrong_answer if alike else None
    simulation.stores.jobs.create(DEFAULT_PROJECT, simulation.request(**DISTILL))
    row = simulation.stores.jobs.claim("simulation", 3600)
    assert row is not None
    run = simulation.new_run(row, world.run, bare())
    await run.note_progress()
    planned = progress(simulation, row.id)
    await meteor(run.context, run)
    await run.note_progress()
    ended = progress(simulation, row.id)
    assert ended.percent > 97
    if alike:
        assert planned.total - ended.total == pytest.approx(2 * 60 * 5, abs=0.2)


def progress(simulation: Simulation, job: str) -> JobProgress:
    row = simulation.stores.jobs.get(job)
    assert row is not None
    return row.progress


async def test_measuring_and_the_judged_questions_share_one_budget(simulation: Simulation):
    world = judged_job(World(0.2, train=lambda request, skill: 0.9))
    sizes = {"dev": 20, "test": 20}
    evaluation: dict[str, Any] = {"judged_questions": 20, "judged_margin": 0.01, "forgetting": 0}
    spec: dict[str, Any] = DISTILL | {"evaluation": evaluation}
    job = Distillation.model_validate({"domain": "d"} | spec)
    splits = {Split.TRAIN: 20, Split.DEV: 20, Split.TEST: 20}
    plan = make_plan(job, Sizes.of_splits(job, splits, without_reference=20, judge_measures=True))
    most = plan.most_calls(JudgeUse.MEASURING) + 8
    evaluation["max_judge_calls"] = most // 2  # measuring takes two calls a pair here, and was to have four
    report = await simulation.job(world, bare(train=20, **sizes), **spec)
    spent = report["measured"]["calls"]
    assert spent == 2 * report["measured"]["compared"] > 0
    assert report["judged"]["ended"] == "budget_used_up"
    assert most // 2 - 8 < spent + report["judged"]["calls"] <= most // 2
