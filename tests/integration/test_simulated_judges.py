"""Whole jobs with good and bad judges: what the report says of them, and that nothing is decided by what they say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.method.judge_trust import planted_pairs
from shared.contracts.labels import Label
from shared.contracts.report import read_report
from shared.contracts.rows import TeacherResponse, Verdict
from shared.contracts.steps import StepRequest
from shared.jobs.tables import DEFAULT_PROJECT
from shared.judging.prompts import CRITERIA
from shared.judging.replies import Choice
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import WRONG, Simulation, World, draw, questions

JUDGED: dict[str, Any] = {
    "phases": ["distill"],
    "guidance": "none",
    "judge": {"provider": "other"},
    "evaluation": {"baselines": [], "judged_questions": 40},
}


def with_(**changes: Any) -> dict[str, Any]:
    return JUDGED | changes


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


def better(request: StepRequest, before: float) -> float:
    return 0.95


def learning() -> World:
    return World(0.1, train=better)


# judges: two answers in the order in which they are shown -> A, B, tie or no verdict


def good(a: str, b: str) -> str:
    """Knows the right answers of simulated students and of the labels below, and who wrote "better"."""
    right = ("right", "better")
    if a.startswith(right) == b.startswith(right):
        return "tie"
    return "A" if a.startswith(right) else "B"


def always_a(a: str, b: str) -> str:
    return "A"


def never_parses(a: str, b: str) -> None:
    return None


def longer(a: str, b: str) -> str:
    return "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"


def dice(a: str, b: str) -> str:
    """Always of one mind about two answers, and knows nothing."""
    higher = max((a, b), key=draw)
    return "A" if higher == a else "B"


BAD: list[Callable[[str, str], str | None]] = [always_a, never_parses, longer, dice]


def label(simulation: Simulation, count: int, ties: int = 0) -> None:
    """Labelled pairs whose better answer is the first as often as the second, the longer as often as the shorter."""
    rows = []
    for n in range(count):
        sides = [f"better {n}" + "." * 9 * (n % 4 > 1), f"worse {n}" + "." * 9 * (n % 4 < 2)]
        rows.append(
            Label(question=f"question {n}?", first=sides[n % 2], second=sides[1 - n % 2], preferred=PREFERRED[n % 2])
        )
    rows += [Label(question=f"tie {n}?", first="same", second="same", preferred="tie") for n in range(ties)]
    assert simulation.stores.labels.add(DEFAULT_PROJECT, rows) == (count + ties, count + ties)


PREFERRED: list[Any] = ["first", "second"]


# the evaluation


async def test_a_fair_judge_sees_the_gain_and_stops_early(simulation: Simulation):
    world = learning()
    world.judge = good
    world.score = lambda answer: 9 if answer != WRONG else 3
    evaluation = {"baselines": [], "judged_questions": 60, "judged_margin": 0.15}
    report = await simulation.job(world, questions(), **with_(batch_size=16, evaluation=evaluation))
    judged = report["judged"]
    assert judged["criteria"]["overall"]["share"][1] > 0.5
    assert judged["n"] < judged["wanted"] == 60
    assert judged["ended"] == "margin_reached"
    assert judged["calls"] == 4 * judged["n"]
    assert judged["judge"]["warnings"] == []
    overall = judged["absolute"]["criteria"]["overall"]
    assert judged["absolute"]["n"] == judged["n"]
    assert 3 <= overall["base"][0] < 5
    assert overall["base"][1] < overall["base"][0] < overall["base"][2]
    assert 8 < overall["final"][0] <= 9
    assert (
        0 < overall["gain"][1] < overall["gain"][0] == pytest.approx(overall["final"][0] - overall["base"][0], abs=1e-3)
    )
    rated = [key for key in world.keys if key.startswith("evaluate/rated/")]
    assert len(rated) == 2 * judged["n"] / 16, "the same questions are compared and scored"


async def test_questions_used_up(simulation: Simulation):
    world = learning()
    world.judge = good
    evaluation = {"baselines": [], "judged_questions": 24, "judged_margin": 0.01, "absolute_scores": False}
    judged = (await simulation.job(world, questions(), **with_(evaluation=evaluation)))["judged"]
    assert (judged["ended"], judged["n"], judged["calls"], judged["absolute"]) == ("questions_used_up", 24, 48, None)


@pytest.mark.parametrize(("judge", "score"), [(good, 5), (never_parses, None)])
async def test_the_budget_of_calls_is_never_exceeded(simulation: Simulation, judge, score):
    world = learning()
    world.judge, world.score = judge, lambda answer: score
    evaluation = {"baselines": [], "judged_questions": 60, "judged_margin": 0.01, "max_judge_calls": 50}
    judged = (await simulation.job(world, questions(), **with_(evaluation=evaluation)))["judged"]
    assert judged["ended"] == "budget_used_up"
    assert 50 - 8 < judged["calls"] <= 50
    assert judged["n"] == judged["calls"] / (4 if judge is good else 8)


@pytest.mark.parametrize("lost", ["base", "final"])
async def test_scores_that_were_not_given_are_counted_and_not_guessed(simulation: Simulation, lost: str):
    world = learning()
    world.score = lambda answer: None if (answer == WRONG) == (lost == "base") and draw(answer) < 0.9 else 8
    absolute = (await simulation.job(world, questions(), **JUDGED))["judged"]["absolute"]
    kept = {"base": "final", "final": "base"}[lost]
    assert absolute["unparsed"][lost] > absolute["unparsed"][kept]
    assert 0 < absolute["n"] <= 40 - absolute["unparsed"][lost]
    assert absolute["criteria"]["overall"]["gain"][0] == 0, "questions count where both answers were scored"
    world.score = lambda answer: None
    absolute = (await simulation.job(world, questions(), suffix="none", seed=1, **JUDGED))["judged"]["absolute"]
    assert (absolute["n"], absolute["criteria"]) == (0, {})


async def test_a_judge_that_always_says_a(simulation: Simulation):
    world = learning()
    world.score = lambda answer: 4 if answer == WRONG else 6
    world.judge = always_a
    spec = with_(judge={})
    judged = (await simulation.job(world, questions(), **spec))["judged"]
    overall = judged["criteria"]["overall"]
    assert (overall["win"], overall["tie"], overall["loss"]) == (0, judged["n"], 0)
    assert overall["share"][1] < overall["share"][0] == 0.5 < overall["share"][2]
    assert judged["judge"]["flip_rate"][0] == 1
    assert judged["judge"]["preferred_the_first_shown"][0] == 1
    same, place, turns = judged["judge"]["warnings"]
    assert "same model" in same
    assert "favours a position: the answer shown first won in 100%" in place
    assert "flip with the order" in turns


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda answer: 9, "the judge scores 80 of 80 answers 9 of 10: its scores tell nothing"),
        (lambda answer: None if answer == WRONG else 8, " of 80 answers"),
        (lambda answer: 3 if answer == WRONG else 8, None),
    ],
)
async def test_scores_that_tell_nothing(simulation: Simulation, score, words: str | None):
    world = learning()
    world.judge, world.score = good, score
    evaluation = {"baselines": [], "judged_questions": 40, "judged_margin": 0.01}
    judged = (await simulation.job(world, questions(), **with_(evaluation=evaluation)))["judged"]
    assert judged["n"] == 40
    if words is None:
        assert judged["judge"]["warnings"] == []
    else:
        (warning,) = judged["judge"]["warnings"]
        assert words in warning


async def test_a_judge_that_never_parses(simulation: Simulation):
    world = learning()
    world.score = lambda answer: 4 if answer == WRONG else 6
    world.judge = never_parses
    judged = (await simulation.job(world, questions(), **JUDGED))["judged"]
    assert judged["judge"]["unparsed"] == judged["n"]
    assert judged["judge"]["warnings"] == [
        f"the judge gave no verdict on {judged['n']} of {judged['n']} pairs; they count as ties"
    ]
    assert judged["criteria"]["overall"]["share"][0] == 0.5


async def test_a_judge_that_prefers_length(simulation: Simulation):
    """Right answers are longer than WRONG here: so the fair judge above prefers the longer, too, and is not warned of."""
    world = learning()
    world.score = lambda answer: 4 + len(answer) % 3
    world.judge = longer
    rows = [q.model_copy(update={"reference": "yes"}) for q in questions()]
    world.right_answer, world.wrong_answer = "yes", "no, and let me tell you at length why it is so"
    judged = (await simulation.job(world, rows, **JUDGED))["judged"]
    (warning,) = judged["judge"]["warnings"]
    assert "favours length: the longer answer won in 100% of its verdicts" in warning
    assert judged["criteria"]["overall"]["loss"] > judged["criteria"]["overall"]["win"]


@pytest.mark.parametrize("judge", [good, *BAD])
async def test_no_judge_decides_what_is_promoted(simulation: Simulation, judge):
    """The decision is the primary metric's on dev, whatever the judge says of the answers."""
    label(simulation, 40)
    world = learning()
    world.judge = judge
    report = await simulation.job(world, questions(), **JUDGED)
    assert report["promotion"]["state"] == "promoted"
    assert [d["decision"] for d in report["decisions"]] == ["promoted"]
    harmed = World(0.9, train=lambda request, before: 0.1)
    harmed.judge = judge
    report = await simulation.job(harmed, questions(), suffix="harmed", **JUDGED)
    assert report["promotion"]["state"] == "rejected"
    assert report["final"]["adapter"] is None


# labels


async def test_a_good_judge_is_believed(simulation: Simulation):
    label(simulation, 40, ties=5)
    world = learning()
    world.judge = good
    judge = (await simulation.job(world, questions(), **JUDGED))["judge"]
    labels = judge["labels"]
    assert (labels["n"], labels["agreement"][0], labels["kappa"], labels["decided"][0]) == (45, 1, 1, 1)
    assert labels["chance"] == pytest.approx(40 / 45 / 2, abs=1e-6)
    assert labels["better_than_chance"] is judge["decides"] is True
    assert judge["warnings"] == []
    assert judge["rests_on_it"] == ["evaluation"]


@pytest.mark.parametrize("judge", BAD)
async def test_a_judge_no_better_than_chance_decides_nothing(simulation: Simulation, judge):
    label(simulation, 40, ties=4)
    world = World()
    world.judge = judge
    world.teacher = lambda row: ("better" if row["guideline"] else "worse", "ok")
    spec: dict[str, Any] = JUDGED | {"phases": ["distill", "iterate"], "guidance": "auto"}
    report = await simulation.job(world, questions(references=False), **spec)
    judge_report = report["judge"]
    assert judge_report["decides"] is False
    assert judge_report["labels"]["better_than_chance"] is False
    assert judge_report["rests_on_it"] == ["guidance", "iterate", "evaluation"]
    against, guidance, iterate, evaluation, *_ = judge_report["warnings"]
    assert "no better than chance" in against
    assert "decides nothing" in against
    assert "undecided" in guidance
    assert "the judge passes nothing in phase 2" in iterate
    assert "ignore the judge's comparison" in evaluation
    pilot = report["phases"]["pilot"]
    assert (pilot["decision"], pilot["guidance"], pilot["gain"][0]) == ("undecided", "none", 0)
    assert not any(key.startswith("pilot/compared") for key in world.keys), "it is not paid for what counts for nothing"
    (event,) = [e for e in simulation.stores.jobs.events(report["job"], limit=1000) if "of 44 labels" in e.message]
    assert (event.level, "it decides nothing" in event.message) == ("warn", True)


HALF: dict[str, Any] = JUDGED | {"phases": ["iterate"], "evaluation": {"baselines": [], "forgetting": 0}}


@pytest.mark.parametrize("on_failure", ["drop", "teacher"])
async def test_a_judge_no_better_than_chance_passes_nothing(simulation: Simulation, on_failure: str):
    """Neither answers nor verdicts are paid for; the student stays, or learns what the teacher says."""
    label(simulation, 40)
    world = learning()
    world.judge = dice
    world.verdict = lambda row: Verdict(id=row["id"], passed=True, by="judge")
    world.teacher = lambda row: (f"answer to {row['id']}", "ok")
    spec: dict[str, Any] = HALF | {"iterate": {"on_failure": on_failure}}
    report = await simulation.job(world, questions(references=False), **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["undecidable"], record["passed"], record["asked_by_try"]) == (60, 0, [0, 0, 0])
    assert record["corrected"] == (60 if on_failure == "teacher" else 0)
    assert not [key for key in world.keys if key.startswith("iterate/1/try")]
    assert (report["final"]["adapter"] is None) == (on_failure == "drop")
    then = {"drop": "not tried but dropped", "teacher": "not tried but answered by the teacher"}[on_failure]
    warned = [
        event.message for event in simulation.stores.jobs.events(report["job"], limit=500) if event.level == "warn"
    ]
    assert any(f"60 of 60 questions are {then}" in message for message in warned)


async def test_a_grader_decides_in_place_of_a_judge_no_better_than_chance(simulation: Simulation):
    """It decides where there are references, and only there."""
    label(simulation, 40)
    world = World(1.0, train=better)
    world.judge = dice
    rows = [q.model_copy(update={"reference": None}) if q.id.endswith("3") else q for q in questions()]
    spec: dict[str, Any] = HALF | {"judge": {"grader": "string_check"}}
    report = await simulation.job(world, rows, **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["undecidable"], record["passed"], record["pass_rate"][0]) == (6, 54, 1.0)
    good_one = World(1.0, train=better)
    good_one.judge, good_one.verdict = good, lambda row: Verdict(id=row["id"], passed=True, by="judge")
    report = await simulation.job(good_one, rows, suffix="good", **spec)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["undecidable"], record["passed"]) == (0, 60)


async def test_what_speaks_against_a_judge_is_said_on_the_labels(simulation: Simulation):
    said = {}
    for judge in BAD:
        world = World()
        world.judge = judge
        if not said:
            label(simulation, 40)
        report = await simulation.job(world, questions(), suffix=judge.__name__.replace("_", "-"), **JUDGED)
        said[judge.__name__] = report["judge"]
    assert said["always_a"]["labels"]["flip_rate"][0] == 1
    assert any("favours a position" in w for w in said["always_a"]["warnings"])
    assert said["never_parses"]["labels"]["unparsed"] == 40
    assert said["never_parses"]["labels"]["agreement"][0] == 0, "no verdict is not taken for a tie that agrees"
    assert said["longer"]["labels"]["length_bias"][1] > 0
    assert any("favours length" in w for w in said["longer"]["warnings"])
    assert said["dice"]["labels"]["length_bias"][1] <= 0


async def test_guidance_best_takes_the_unguided_answers_when_nobody_can_tell(simulation: Simulation):
    label(simulation, 40)
    trained: list[StepRequest] = []

    def train(request: StepRequest, before: float) -> float:
        trained.append(request)
        return before

    world = World(train=train)
    world.judge = always_a
    world.teacher = lambda row: (f"{'better' if row['guideline'] else 'worse'} {row['id']}", "ok")
    await simulation.job(world, questions(references=False), **with_(guidance="best"))
    assert {row["completion"].split()[0] for row in trained[0].rows} == {"worse"}


async def test_few_labels_and_none(simulation: Simulation):
    world = learning()
    world.judge = always_a
    none = (await simulation.job(world, questions(), suffix="none", **JUDGED))["judge"]
    assert (none["labels"], none["decides"]) == (None, True)
    assert none["warnings"] == ["no human preferences measure this judge; POST /v1/labels takes them"]
    label(simulation, 12)
    few = (await simulation.job(world, questions(), suffix="few", **JUDGED))["judge"]
    assert few["labels"]["better_than_chance"] is None
    assert few["decides"] is True
    assert few["warnings"][0].startswith("12 labels are too few")


async def test_labels_are_asked_only_where_something_rests_on_the_judge(simulation: Simulation):
    label(simulation, 40)
    world = learning()
    spec: dict[str, Any] = JUDGED | {
        "evaluation": {"baselines": []},
        "phases": ["iterate"],
        "judge": {"grader": "string_check"},
    }
    judge = (await simulation.job(world, questions(), **spec))["judge"]
    assert judge == {"rests_on_it": [], "labels": None, "decides": True, "warnings": []}
    assert not any(key.startswith("evaluate/labels") for key in world.keys)


async def test_so_many_labels_as_the_job_wants(simulation: Simulation):
    label(simulation, 40)
    world = learning()
    world.judge = good
    spec: dict[str, Any] = JUDGED | {"judge": {"labels": 25}, "batch_size": 10}
    judge = (await simulation.job(world, questions(), **spec))["judge"]
    assert judge["labels"]["n"] == 25
    assert [key for key in world.keys if "labels" in key] == [f"evaluate/labels/{n}" for n in range(3)]


async def test_without_a_teacher_there_is_no_guidance_to_compare(simulation: Simulation):
    rows = questions()
    rows += [q.model_copy(update={"id": f"bare-{q.id}", "reference": None}) for q in rows[:10]]
    world = World()
    world.teacher = lambda row: ("an answer", "ok")
    for answers, rests_on_it in (("references", []), ("teacher", ["guidance"])):
        spec = with_(guidance="auto", distill={"answers": answers}, evaluation={"baselines": []})
        report = await simulation.job(world, rows, suffix=answers, **spec)
        assert report["judge"]["rests_on_it"] == rests_on_it


async def test_a_judge_no_better_than_chance_measures_nothing(simulation: Simulation):
    """Without references, and with labels that speak against the judge, nobody is asked and nothing is promoted."""
    label(simulation, 40, ties=4)
    world = learning()
    world.judge = dice
    world.teacher = lambda row: (f"answer to {row['id']}", "ok")
    rows = questions(references=False, measured_by_references=False)
    report = await simulation.job(world, rows, phases=["distill"], guidance="none", evaluation={"forgetting": 0})
    assert report["promotion"]["state"] == "undecided"
    assert report["measured"]["compared"] == 0
    assert any("promotes no model" in warning for warning in report["judge"]["warnings"])
    assert not any("/preferences/" in key for key in world.keys)


# the gate: a right answer against one to another question


class Knowing(World):
    """A judge that knows which of the answers is the question's own."""

    def _both_orders(self, row: dict[str, Any]) -> list[Choice | None]:
        own = "right " + row["id"]
        sides = ((row["first"], row["second"]), (row["second"], row["first"]))
        told = ["A" if a == own else "B" if b == own else "tie" for a, b in sides]
        return [Choice.model_validate(dict.fromkeys(CRITERIA, side)) for side in told]


GATED: dict[str, Any] = {
    "phases": ["distill", "iterate"],
    "guidance": "none",
    "judge": {"provider": "other"},
    "pilot": {"judge_pairs": 8},
    "iterate": {"tries": 1},
    "evaluation": {"baselines": [], "forgetting": 0},
}


async def test_a_judge_that_tells_planted_answers_passes_the_gate(simulation: Simulation):
    report = await simulation.job(Knowing(0.9), questions(), **GATED)
    gate = report["phases"]["pilot"]["judge"]
    assert gate == {"n": 8, "told": 1.0, "turned": 0, "unparsed": 0, "passed": True}
    assert report["judge"]["decides"] is True
    assert report["phases"]["iterate"]["rounds"][0]["undecidable"] == 0
    assert "it may decide: yes" in as_markdown(read_report(report))


@pytest.mark.parametrize(("judge", "turned", "unparsed"), [(always_a, 8, 0), (never_parses, 0, 8)])
async def test_a_judge_that_fails_the_gate_decides_nothing(simulation: Simulation, judge, turned: int, unparsed: int):
    world = World(0.9)
    world.judge = judge
    report = await simulation.job(world, questions(), **GATED)
    gate = report["phases"]["pilot"]["judge"]
    assert gate == {"n": 8, "told": 0.5, "turned": turned, "unparsed": unparsed, "passed": False}
    assert report["judge"]["decides"] is False
    against, iterate, *_ = report["judge"]["warnings"]
    assert "of 8 pairs with an answer to another question the judge told 50%" in against
    assert "the judge passes nothing in phase 2" in iterate
    assert report["phases"]["iterate"]["rounds"][0]["undecidable"] > 0
    assert not any(key.startswith("iterate/1/try") for key in world.keys)


def test_planted_pairs_show_no_reference_and_leave_out_what_is_the_same():
    asked = questions(train=4)[:4]
    same = [*asked[:2], asked[2].model_copy(update={"reference": asked[1].reference}), asked[3]]
    answers = [TeacherResponse(id=q.id, answer="x", finish_reason="stop", outcome="ok") for q in same]
    pairs = planted_pairs(same, answers, 8)
    assert [pair.id for pair in pairs] == ["train-0", "train-2", "train-3"]
    assert all(pair.reference is None and pair.first != pair.second for pair in pairs)
    bare = [q.model_copy(update={"reference": None}) for q in asked]
    refused = [
        answer.model_copy(update={"outcome": "refused", "answer": q.id})
        for q, answer in zip(bare, answers, strict=True)
    ]
    assert planted_pairs(bare, refused, 8) == []
