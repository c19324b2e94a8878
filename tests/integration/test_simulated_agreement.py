"""Whole jobs whose teacher answers each question several times: what is learned, with which weight, and what is dropped."""

from pathlib import Path
from typing import Any

import pytest

from shared.contracts.data import Split
from shared.contracts.report import read_report
from shared.contracts.rows import Example, Grades, TeacherResponse, TeacherSample
from shared.contracts.steps import StepKind, StepRequest
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import Simulation, World, questions

SAMPLES = 4
DRAWN = {  # by the last figure of a question's id: the teacher's answers, in the order they were drawn
    0: ["42", "The answer is 42.0", "41", "42"],
    1: ["1", "2", "3", "4"],
    2: ["no idea", "7", "none", "7"],
    3: ["", "", "", ""],
}


class Several(World):
    def __init__(self) -> None:
        super().__init__(0.4, train=lambda request, before: 0.9)
        self.trained: list[StepRequest] = []

    async def run(self, job: Any, key: Any, request: StepRequest, limit: Any, on_progress: Any) -> Any:
        if request.kind is StepKind.SFT and str(key) == "distill/train":
            self.trained.append(request)
        return await super().run(job, key, request, limit, on_progress)

    def _teach(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> TeacherResponse:
        texts = DRAWN[int(row["id"][-1]) % len(DRAWN)][: request.params.get("samples", 1)]
        samples = [
            TeacherSample(answer=text, finish_reason="stop", outcome="ok" if text else "empty") for text in texts
        ]
        first = next((sample for sample in samples if sample.outcome == "ok"), samples[0])
        return TeacherResponse(id=row["id"], **first.model_dump(), samples=samples if len(samples) > 1 else [])


class Graded(Several):
    """Its grader passes a number without its decimals."""

    def _grade(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Grades:
        whole = (row["reference"] or "").removesuffix(".0")
        return super()._grade(
            key, request, adapter, row | {"answer": row["reference"] if row["answer"] == whole else row["answer"]}
        )


@pytest.mark.parametrize("guidance", ["none", "weak"])
async def test_what_most_samples_agree_on_is_learned_by_its_share(tmp_path: Path, guidance: str):
    world = Several()
    report = await Simulation(tmp_path).job(
        world,
        questions(train=40, dev=8, test=8, references=False),
        phases=["distill"],
        guidance=guidance,
        primary_metric="number",
        teacher={"samples": SAMPLES, "ground": False},
        distill={"rationale": "off"},
        evaluation={"forgetting": 0, "baselines": []},
    )
    rows = [Example.model_validate(row) for row in world.trained[0].rows]
    learned = {int(row.id[-1]) % len(DRAWN): (row.completion, row.weight) for row in rows}
    assert learned == {0: ("42", 0.75), 2: ("7", 0.5)}
    record = report["phases"]["distill"]
    of_each = {number: sum(int(f"{n}"[-1]) % 4 == number for n in range(40)) for number in DRAWN}
    assert record["dropped"]["no_agreement"] == of_each[1]
    assert record["dropped"]["empty"] == of_each[3]
    assert record["agreement"] == {
        "samples": SAMPLES,
        "mean": round((0.75 * of_each[0] + 0.25 * of_each[1] + 0.5 * of_each[2]) / (40 - of_each[3]), 4),
        "questions_by_votes": {"1": of_each[1], "2": of_each[2], "3": of_each[0], "4": 0},
    }
    assert f"of {SAMPLES} samples" in as_markdown(read_report(report))


async def test_every_distinct_sample_is_learned_by_its_share_where_the_job_keeps_all(tmp_path: Path):
    world = Several()
    report = await Simulation(tmp_path).job(
        world,
        questions(train=40, dev=8, test=8, references=False),
        phases=["distill"],
        guidance="none",
        primary_metric="number",
        teacher={"samples": SAMPLES, "ground": False, "keep": "all"},
        distill={"rationale": "off"},
        evaluation={"forgetting": 0, "baselines": []},
    )
    learned: dict[int, set[tuple[str, float]]] = {}
    for row in (Example.model_validate(row) for row in world.trained[0].rows):
        learned.setdefault(int(row.id[-1]) % len(DRAWN), set()).add((row.completion, row.weight))
    assert learned == {
        0: {("42", 0.5), ("The answer is 42.0", 0.25), ("41", 0.25)},
        1: {("1", 0.25), ("2", 0.25), ("3", 0.25), ("4", 0.25)},
        2: {("no idea", 0.25), ("7", 0.5), ("none", 0.25)},
    }
    record = report["phases"]["distill"]
    assert record["dropped"]["empty"] > 0
    assert "no_agreement" not in record["dropped"]
    assert "agreement" not in record


async def test_a_sample_that_the_grader_passes_is_learned_and_the_reference_where_none_does(tmp_path: Path):
    world = Graded()
    references = {0: "42.0", 1: "5.0", 2: "7.0", 3: "9.0"}  # by what DRAWN has: samples pass for 0 and 2 alone
    rows = [
        q.model_copy(update={"reference": references[int(q.id[-1]) % 4]})
        if q.split is Split.TRAIN and q.id[-1] != "5"
        else q
        for q in questions(train=40, dev=8, test=8, references=False)
    ]
    report = await Simulation(tmp_path).job(
        world,
        rows,
        phases=["distill"],
        guidance="none",
        primary_metric="number",
        judge={"grader": "number"},
        teacher={"samples": SAMPLES, "ground": False, "keep": "passing"},
        distill={"rationale": "off"},
        evaluation={"forgetting": 0, "baselines": []},
    )
    learned = {row.id[-1]: (row.completion, row.weight) for row in map(Example.model_validate, world.trained[0].rows)}
    assert learned == {
        **dict.fromkeys("048", ("42", 1)),
        **dict.fromkeys("26", ("7", 1)),
        **dict.fromkeys("19", ("5.0", 1)),
        **dict.fromkeys("37", ("9.0", 1)),
    }
    record = report["phases"]["distill"]
    assert record["dropped"]["no_agreement"] == 4  # those without a reference, which end with 5
    assert record["from_reference"] == 16
    assert "the reference of 16 questions" in as_markdown(read_report(report))


async def test_one_answer_is_asked_and_learned_as_before(tmp_path: Path):
    world = Several()
    report = await Simulation(tmp_path).job(
        world, questions(train=12, dev=8, test=8), phases=["distill"], guidance="none", evaluation={"forgetting": 0}
    )
    assert all("weight" not in row for row in world.trained[0].rows)
    assert "agreement" not in report["phases"]["distill"]
