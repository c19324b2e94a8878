"""Odd data, students, teachers and judges: what whole jobs say of them. Real orchestration, pretended workers."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.cli.report_screen import show_report
from shared.contracts.data import Question, Split
from shared.contracts.errors import FatalError
from shared.contracts.report import read_report
from shared.contracts.rows import CUT_OFF, TOO_LONG, StudentCompletion, Verdict
from shared.contracts.steps import StepKind
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import WRONG, Simulation, World, questions

NOTHING: dict[str, Any] = {"baselines": [], "forgetting": 0}
DISTILL: dict[str, Any] = {"phases": ["distill"], "guidance": "none", "evaluation": NOTHING}
ITERATE: dict[str, Any] = {"phases": ["iterate"], "iterate": {"rounds": 1, "tries": 2}, "evaluation": NOTHING}
GUIDELINE = "First name the command, then explain which option prints hidden files too."
REFUSAL = "I'm sorry, I can't help with that."


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


def like(spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return spec | changes


def shown(report: dict[str, Any]) -> str:
    file = io.StringIO()
    show_report(Console(file=file, width=250), read_report(report))
    return file.getvalue()


# the teacher

Teacher = Callable[[dict[str, Any]], tuple[str, str]]
TEACHERS: list[tuple[str, Teacher, str]] = [
    ("refuses", lambda row: (REFUSAL, "refused"), "refused"),
    ("says nothing", lambda row: ("", "empty"), "empty"),
    ("is cut off", lambda row: ("and then", "cut_off"), "cut_off"),
    ("repeats the question", lambda row: (row["question"], "ok"), "repeats_question"),
    ("answers in another language", lambda row: ("Команда показывает файлы", "ok"), "other_language"),
    ("copies the guideline", lambda row: (row["guideline"] or "", "ok"), "copies_guideline"),
]


class Wordy(World):
    """Its guidelines are long enough to be no answer."""

    def _guide(self, key, request, adapter, row):
        return super()._guide(key, request, adapter, row).model_copy(update={"guideline": f"{GUIDELINE} {row['id']}"})


@pytest.mark.parametrize(("teacher", "reason"), [pytest.param(t, r, id=n) for n, t, r in TEACHERS])
async def test_a_teacher_of_no_use_stops_the_job_at_the_pilot(simulation: Simulation, teacher: Teacher, reason: str):
    world = Wordy()
    world.teacher = teacher
    with pytest.raises(FatalError) as error:
        await simulation.job(world, questions(), **like(DISTILL, guidance="weak"))
    assert (error.value.code, error.value.param) == ("teacher_unfit", "distillation.teacher")
    assert f"({reason})" in error.value.message
    assert len([key for key in world.keys if "/answers/" in key]) == 1


async def test_each_reason_is_counted_and_the_rest_is_learned(simulation: Simulation):
    """One kind of fault for each last digit of the question's number; 54 rows end in a digit below 9."""
    trained: list[list[str]] = []
    world = Wordy(train=lambda request, before: trained.append([row["id"] for row in request.rows]) or before)
    faults = dict(zip("123456", (teacher for _, teacher, _ in TEACHERS), strict=True))
    faults["7"] = lambda row: (f"{WRONG} for all of them that end in a seven", "ok")
    world.teacher = lambda row: faults.get(row["id"][-1], lambda row: (row["reference"], "ok"))(row)
    spec = like(DISTILL, guidance="weak", pilot={"questions": 60})
    report = await simulation.job(world, questions(), **spec)
    record = report["phases"]["distill"]
    assert record["dropped"] == {reason: 6 for _, _, reason in TEACHERS}
    assert record["kept"] == 60 - 36 == len(trained[0])
    assert report["phases"]["pilot"]["usable"] == {"weak": 24}
    assert not {row[-1] for row in trained[0]} & set("123456")
    assert "6 copies_guideline" in shown(report)


async def test_rows_that_training_could_not_use_are_counted(simulation: Simulation):
    world = World()
    world.training = lambda request: {"dropped_too_long": 5}
    report = await simulation.job(world, questions(), **DISTILL)
    record = report["phases"]["distill"]
    assert (record["kept"], record["dropped"]) == (55, {"too_long": 5})
    assert "phase 1: 5 rows are longer than adapter.max_length" in shown(report)


@pytest.mark.parametrize("usable", [3, 1])
async def test_a_handful_of_usable_answers_is_all_that_is_learned(simulation: Simulation, usable: int):
    """None at all stops the job at the pilot, above. The report says of how many it rests on."""
    trained: list[int] = []
    asked: dict[str, int] = {}
    world = World(train=lambda request, before: trained.append(len(request.rows)) or before)

    def teacher(row: dict[str, Any]) -> tuple[str, str]:
        place = asked.setdefault(row["id"], len(asked))
        return (row["reference"], "ok") if place < usable else (REFUSAL, "refused")

    world.teacher = teacher
    report = await simulation.job(world, questions(), **DISTILL)
    assert trained == [usable]
    assert report["phases"]["pilot"]["usable"] == {"none": usable}
    assert report["phases"]["distill"]["dropped"] == {"refused": 60 - usable}
    for text in (shown(report), as_markdown(read_report(report))):
        assert f"distill: {usable} of 60 answers kept, dropped {60 - usable} refused; answers of the teacher" in text
        assert f"of 16 answers each way can be used: {usable} with guidance none" in text


async def test_a_loss_that_is_no_number_fails_the_job(simulation: Simulation):
    def train(request, before):
        raise FatalError("the loss became nan at optimiser step 3; lower the learning rate", code="nan_loss")

    with pytest.raises(FatalError, match="lower the learning rate"):
        await simulation.job(World(train=train), questions(), **DISTILL)
    assert simulation.stores.catalog.served("proj_default", "expert") is None


# the student


async def test_missing_markers_are_counted_and_shown(simulation: Simulation):
    world = World(0.5)
    world.spoil = lambda key, attempt: attempt.model_copy(
        update={"marker_missing": key.startswith("iterate") and attempt.id.endswith("3")}
    )
    report = await simulation.job(world, questions(), **like(ITERATE, iterate={"rounds": 1, "tries": 1}))
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["missing_markers"] == 6
    assert "6 answers without the marker" in shown(report)


async def test_questions_longer_than_the_context_are_not_judged_and_count_as_wrong(simulation: Simulation):
    def spoil(key: str, attempt: StudentCompletion) -> StudentCompletion:
        if not attempt.id.endswith("3"):
            return attempt
        return attempt.model_copy(update={"answer": "", "finish_reason": TOO_LONG})

    judged: list[str] = []

    def verdict(row: dict[str, Any]) -> Verdict:
        judged.append(row["id"])
        return Verdict(id=row["id"], passed=row["answer"] == row["reference"], critique="again", by="judge")

    world = World(1.0)
    world.spoil, world.verdict = spoil, verdict
    report = await simulation.job(world, questions(), **ITERATE)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["too_long"] == 6
    assert record["asked_by_try"] == [60, 0], "what is too long would be so again"
    assert record["passed"] == 54 == len(judged)
    assert not [row for row in judged if row.endswith("3")]
    assert report["table"][0]["too_long"] == 6
    assert report["table"][0]["metrics"]["string_check"][0] == pytest.approx(54 / 60)
    assert "round 1: 6 questions do not fit into the student's context" in shown(report)


class CutOff(World):
    """Every text whose row's name ends with 3 ends at its limit of tokens. learned: completions of all trainings by kind; taught: what
    the teacher was shown."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.learned: dict[StepKind, list[dict[str, Any]]] = {StepKind.SFT: [], StepKind.DPO: []}
        self.taught: list[dict[str, Any]] = []
        self.spoil = lambda key, attempt: cut(attempt)
        self.train = lambda request, before: self.learned[request.kind].extend(request.rows) or before

    def _guide(self, key, request, adapter, row):
        return cut(super()._guide(key, request, adapter, row))

    def _teach(self, key, request, adapter, row):
        self.taught.append(row)
        return super()._teach(key, request, adapter, row)

    def _search(self, key, request, adapter, row):
        pair = super()._search(key, request, adapter, row).model_copy(update={"chosen": f"right {row['id']}"})
        return pair.model_copy(update={"cut_off": ["rejected"]}) if row["id"].endswith("3") else pair


def cut(row: Any) -> Any:
    return row.model_copy(update={"finish_reason": CUT_OFF}) if row.id.endswith("3") else row


async def test_nothing_cut_off_is_learned_in_any_phase_and_all_of_it_is_counted(simulation: Simulation):
    world = CutOff(1.0)
    spec = {"guidance": "weak", "iterate": {"tries": 2, "rounds": 1, "questions": 30}, "evolve": {"questions": 30}}
    report = await simulation.job(world, questions(train=100), **spec, evaluation=NOTHING)

    assert {bool(row["guideline"]) for row in world.taught if row["id"].endswith("3")} == {False}
    assert {bool(row["guideline"]) for row in world.taught if not row["id"].endswith("3")} == {True}
    tuned = [row["id"] for row in world.learned[StepKind.SFT]]
    assert len(tuned) == len(set(tuned)), "each question once, in phase 1 or 2"
    phases = report["phases"]
    (round_,), (turn,) = phases["iterate"]["rounds"], phases["evolve"]["turns"]
    cut_ids = sum(f"train-{n}" not in tuned for n in range(100)) - 30  # of phase 2; evolve has 30 of its own
    assert round_["cut_off"] == 2 * cut_ids > 0, "tried again, once"
    assert round_["passed"] == round_["questions"] - cut_ids
    assert not [row for row in world.learned[StepKind.DPO] if row["id"].endswith("3")]
    assert turn["pairs"] == len(world.learned[StepKind.DPO]) == 30 - turn["dropped"]["cut_off"] < 30
    assert (
        phases["distill"]["cut_off_guidelines"]
        == sum(not row["guideline"] for row in world.taught) - phases["pilot"]["cut_off"]["guidelines"]
    )
    assert [row["cut_off"] for row in report["table"]] == [6] * 4

    for form in (shown(report), as_markdown(read_report(report))):
        assert "cut off" in form
        for setting in ("distill.guideline_tokens", "distillation.answer_tokens"):
            assert f"raise {setting}" in form


async def test_few_texts_that_were_cut_off_give_no_warning(simulation: Simulation):
    world = World(1.0)
    world.spoil = lambda key, attempt: cut(attempt) if attempt.id == "test-3" else attempt
    report = await simulation.job(world, questions(), **ITERATE)
    assert report["table"][0]["cut_off"] == 1
    assert "raise distillation.answer_tokens" not in shown(report)


async def test_a_student_against_itself_has_no_interval(simulation: Simulation):
    report = await simulation.job(World(0.0), questions(), **ITERATE)  # nothing passes, nothing is trained on
    base, iterate = report["table"]
    assert base["adapter"] == iterate["adapter"] is None
    assert base["gain_over_base"] == iterate["gain_over_base"] == [0, 0, 0]
    assert report["decisions"][0]["decision"] == "undecided"
    assert "is base model itself" in shown(report)
    assert sum("| - |" in line for line in as_markdown(read_report(report)).splitlines()) == 4


async def test_two_students_that_answered_alike_may_differ_elsewhere(simulation: Simulation):
    report = await simulation.job(World(0.0), questions(), **DISTILL)  # another adapter, never right either
    value, low, high = report["table"][1]["gain_over_base"]
    assert low < value == 0 < high


async def test_examples_in_the_prompt_make_another_student_of_the_base(simulation: Simulation):
    evaluation = NOTHING | {"baselines": ["few_shot"]}
    report = await simulation.job(World(0.5), questions(), **like(DISTILL, evaluation=evaluation))
    few_shot = report["table"][1]
    assert few_shot["name"] == "few_shot"
    assert few_shot["adapter"] is None
    assert few_shot["gain_over_base"][1] < 0 < few_shot["gain_over_base"][2]


# the judge


async def test_verdicts_that_cannot_be_read_pass_nothing_and_are_told(simulation: Simulation):
    world = World(1.0, train=lambda request, before: 0.0)
    world.verdict = lambda row: Verdict(id=row["id"], passed=False, by="unparsed")
    report = await simulation.job(world, questions(), **ITERATE)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert (record["passed"], record["unparsed_verdicts"]) == (0, 120)
    assert "training" not in record
    assert report["promotion"]["state"] == "rejected"
    assert "round 1: 120 of 120 verdicts could not be read" in shown(report)


async def test_a_hint_that_tells_the_reference_is_dropped_and_counted(simulation: Simulation):
    """The judge's worker drops it; the next try sees the attempt and no hint."""
    seen: list[dict[str, Any]] = []

    class Noting(World):
        def _reason(self, key, request, adapter, row):
            seen.append(row)
            return super()._answer(key, request, adapter, row)

    world = Noting(0.0)
    world.verdict = lambda row: Verdict(
        id=row["id"],
        passed=False,
        by="judge",
        leaked=row["id"].endswith("3"),
        critique=None if row["id"].endswith("3") else "mind",
    )
    report = await simulation.job(world, questions(), **ITERATE)
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["leaked_hints"] == 12, "six questions, two tries"
    again = [row for row in seen if row["previous"] is not None]
    assert {row["critique"] for row in again if row["id"].endswith("3")} == {None}
    assert {row["critique"] for row in again if not row["id"].endswith("3")} == {"mind"}
    for text in (shown(report), as_markdown(read_report(report))):
        assert "12 hints dropped because they told the answer" in text


# the data


async def test_references_that_contradict_each_other_are_told(simulation: Simulation):
    rows = questions()
    twins = [
        Question(id="twin-a", question="How many?", reference="one", split=Split.DEV),
        Question(id="twin-b", question="how  MANY?", reference="two", split=Split.DEV),
        Question(id="same-a", question="How long?", reference="an hour", split=Split.DEV),
        Question(id="same-b", question="How long?", reference="an  hour", split=Split.DEV),
    ]
    report = await simulation.job(World(), [*rows, *twins], **DISTILL)
    assert report["data"]["conflicting_references"] == 1
    assert sorted(report["data"]["conflicting_ids"][0]) == ["twin-a", "twin-b"]
    assert "questions asked more than once with different references: 1 (twin-" in shown(report)


async def test_empty_references_are_no_references(simulation: Simulation):
    rows = [row if int(row.id.rpartition("-")[2]) % 2 else _with_reference(row, " \n") for row in questions()]
    report = await simulation.job(World(), rows, **like(DISTILL, distill={"answers": "references"}))
    assert report["data"]["without_reference"] == {"train": 30, "dev": 30, "test": 30}
    assert report["phases"]["distill"]["dropped"] == {"no_reference": 30}
    assert report["table"][0]["n"] == 30
    assert "30 of 60 dev questions have no reference: decisions rest on the other 30" in shown(report)


async def test_without_any_reference_nothing_is_decided(simulation: Simulation):
    rows = [_with_reference(row, "") for row in questions()]
    world = World(1.0)
    world.teacher = lambda row: (f"answer {row['id']}", "ok")
    report = await simulation.job(world, rows, **DISTILL)
    assert report["promotion"]["state"] == "undecided"
    gain, low, high = report["decisions"][0]["gain_on_dev"]  # the judge measures, and sees no difference
    assert low < gain == 0 < high
    assert "hardly any references in dev or test: the judge decided" in shown(report)
    assert report["data"]["without_reference"]["dev"] == 60
    assert not [warning for warning in report["warnings"] if "interval" in warning], "60 judged rows are enough"


async def test_small_splits_are_warned_of(simulation: Simulation):
    few = await simulation.job(World(), questions(dev=12, test=29), **DISTILL)
    assert [warning.partition(":")[0] for warning in few["warnings"]] == ["dev split", "test split"]
    assert "dev split: with 12 rows the 95 % interval of a share may cover less" in shown(few)
    enough = await simulation.job(World(), questions(dev=30, test=30), suffix="enough", **DISTILL)
    assert enough["warnings"] == []


def _with_reference(row: Question, reference: str) -> Question:
    return Question.model_validate(row.model_dump() | {"reference": reference})
