"""What the report of a whole job says, in JSON, on the screen and in markdown. Real orchestration, pretended workers."""

import io
import json
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from rich.console import Console

from services.cli.report_screen import show_report
from services.orchestrator.method.report import power_of
from shared.contracts.report import REPORT_VERSION, Power, Report, read_report
from shared.contracts.rows import StudentCompletion
from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import StepKind, StepRequest
from shared.evaluation.statistics import power, questions_needed
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import Simulation, World, questions

DISTILL: dict[str, Any] = {"phases": ["distill"], "guidance": "none"}


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


def shown(report: dict[str, Any]) -> str:
    file = io.StringIO()
    show_report(Console(file=file, width=400), read_report(report))
    return file.getvalue()


def only(*baselines: str) -> dict[str, Any]:
    return {"baselines": list(baselines), "forgetting": 0}


async def test_a_report_is_what_its_contract_says(simulation: Simulation):
    world = World(0.2, train=lambda request, before: min(1.0, before + 0.2))
    report = await simulation.job(
        world, questions(), guidance="auto", iterate={"rounds": 2}, evaluation={"judged_questions": 12}
    )
    written = json.loads(json.dumps(report))
    read = read_report(written)
    assert json.loads(read.model_dump_json()) == written | {"version": REPORT_VERSION}
    assert Report.model_validate(written) == read, "no field that the contract does not name"


# the verdict


class Shown(World):
    """The base with examples in its prompt is right with a chance of its own."""

    def __init__(self, with_examples: float, **options: Any):
        super().__init__(**options)
        self.with_examples = with_examples

    def _answer(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> StudentCompletion:
        before = self.skills[adapter]
        self.skills[adapter] = self.with_examples if row["shots"] else before
        try:
            return super()._answer(key, request, adapter, row)
        finally:
            self.skills[adapter] = before


def by_teacher_or_references(teacher: float, references: float):
    """The SFT baseline learns from all train rows at once, phase 1 from the same rows by the teacher: told apart by the
    order of skills, as phase 1 is trained first."""
    skills = iter([teacher, references])
    return lambda request, before: next(skills)


@pytest.mark.parametrize(
    ("final", "with_examples", "references", "not_beaten", "words"),
    [
        (0.9, 0.2, 0.2, [], "beats the base on the test split, and also: base with random examples in its prompt; SFT"),
        (
            0.9,
            0.9,
            0.2,
            ["few_shot"],
            "beats the base on the test split, but not: base with random examples in its prompt (",
        ),
        (
            0.6,
            0.2,
            1.0,
            ["sft_references"],
            "but not: SFT on the references, no teacher (worse than it). A gain that does not beat these proves nothing",
        ),
        (
            0.2,
            0.2,
            0.2,
            ["few_shot", "sft_references"],
            "not told apart from the base on the test split: no gain is shown",
        ),
    ],
)
async def test_a_gain_that_does_not_beat_the_baselines_is_said_to_prove_nothing(
    simulation: Simulation, final, with_examples, references, not_beaten, words
):
    world = Shown(with_examples, base_skill=0.2, train=by_teacher_or_references(final, references))
    rows = questions(dev=60, test=120)
    rows += [rows[0].model_copy(update={"id": "train-bare", "reference": None})]  # so that the two trainings differ
    world.teacher = lambda row: (row["reference"] or "something", "ok")
    report = await simulation.job(world, rows, **DISTILL, evaluation=only("few_shot", "sft_references"))
    verdict = report["verdict"]
    assert verdict["not_beaten"] == not_beaten
    assert verdict["beats_base"] == (final > 0.2)
    for text in (verdict["words"], shown(report), as_markdown(read_report(report))):
        assert words in text
    events = simulation.stores.jobs.events(report["job"], limit=500)
    assert verdict["words"] in [event.message for event in events]


async def test_without_baselines_and_without_a_model_the_verdict_says_so(simulation: Simulation):
    world = World(0.2, train=lambda request, before: 0.9)
    alone = await simulation.job(world, questions(), **DISTILL, evaluation=only())
    assert "No baseline was measured beside it" in alone["verdict"]["words"]
    harmed = World(0.9, train=lambda request, before: 0.1)
    none = await simulation.job(harmed, questions(), suffix="none", **DISTILL, evaluation=only("few_shot"))
    assert none["final"]["name"] == "base", "not the base with examples in its prompt"
    assert none["verdict"]["words"] == "No phase improved on the base, which stays the final model."
    assert none["verdict"]["not_beaten"] == ["few_shot"]


async def test_the_record_against_each_baseline_stands_in_the_markdown(simulation: Simulation):
    world = World(0.2, train=by_teacher_or_references(0.9, 0.5))
    report = await simulation.job(world, questions(), **DISTILL, evaluation=only("few_shot"))
    record = report["final"]["record"]["few_shot"]
    line = f"| {record['win']} / {record['tie']} / {record['loss']} |"
    table = (
        as_markdown(read_report(report))
        .partition("| gain of phase 1, distill over |")[2]
        .partition("\n\n")[0]
        .splitlines()
    )
    assert table[0].split(" | ")[-1] == "won / tied / lost |"
    (line_of_row,) = [row for row in table if row.startswith("| base with random examples")]
    assert line_of_row.endswith(line)
    assert len(line_of_row.split(" | ")) == 2 + len(report["table"][0]["metrics"])


# markers


REASONED: dict[str, Any] = {
    "phases": ["iterate", "evolve"],
    "iterate": {"tries": 1},
    "evaluation": {"baselines": ["few_shot"], "forgetting": 8},
}


def reasoning(key: str, attempt: StudentCompletion) -> StudentCompletion:
    """Phase 2's answers have rationales; of trained students those whose id does not end in 7."""
    trained = key.startswith("evaluate") and ("/iterate" in key or "/evolve" in key or "/final" in key)
    writes = key.startswith("iterate") or (trained and not attempt.id.endswith("7"))
    return attempt.model_copy(update={"rationale": "for a reason"}) if writes else attempt


async def test_missing_markers_are_counted_where_a_rationale_was_learned(simulation: Simulation):
    world = World(0.5, train=lambda request, before: min(1.0, before + 0.2))
    world.spoil = reasoning
    report = await simulation.job(world, questions(), **REASONED)
    missing = {row["name"]: row["missing_markers"] for row in report["table"]}
    assert missing == {"base": None, "few_shot": None, "iterate": 6, "evolve": 6}
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["with_rationale"] == record["passed"] > 0
    assert report["promotion"]["forgetting"]["missing_markers"] in range(8)
    for text in (shown(report), as_markdown(read_report(report))):
        assert "phase 3, evolve: 6 of 60 answers came without the rationale and the marker" in text
        assert text.count("came without the rationale") == 2


async def test_bare_answers_miss_no_marker_where_none_was_learned(simulation: Simulation):
    """Phases 1 and 3 train on bare answers, and so does phase 2 when the student writes no rationale."""
    report = await simulation.job(World(0.5, train=lambda request, before: 0.7), questions(), **REASONED)
    assert {row["missing_markers"] for row in report["table"]} == {None}
    assert "came without the rationale" not in shown(report)


async def test_what_the_teacher_reasons_is_learned_with_its_answer_and_has_room_everywhere(simulation: Simulation):
    learned: list[str] = []
    rooms: set[tuple[str, int]] = set()

    class Reasoned(World):
        async def run(self, job, key, request, limit, on_progress):
            if sampling := request.params.get("sampling"):
                rooms.add((request.kind.value, sampling["max_tokens"]))
            if request.kind is StepKind.TEACH:
                assert request.params["rationale"] is True
            return await super().run(job, key, request, limit, on_progress)

        def _teach(self, key, request, adapter, row):
            response = super()._teach(key, request, adapter, row)
            if row["id"].endswith("9"):
                return response.model_copy(update={"outcome": "no_rationale"})
            return response.model_copy(update={"rationale": "for a reason"})

    def train(request, before):
        learned.extend(row["completion"] for row in request.rows)
        return 0.9

    world = Reasoned(0.3, train=train)
    world.spoil = lambda key, attempt: attempt.model_copy(
        update={"rationale": "so" if "/distill" in key and not attempt.id.endswith("7") else None}
    )
    spec = {"phases": ["distill"], "guidance": "none", "evaluation": only() | {"forgetting": 8}, "answer_tokens": 40}
    report = await simulation.job(world, questions(), **spec, distill={"rationale": "on", "rationale_tokens": 60})
    assert len(learned) == 54
    assert all(text.startswith("for a reason\nAnswer: right train-") for text in learned)
    assert report["phases"]["distill"]["dropped"] == {"no_rationale": 6}
    assert rooms - {("strong.teach", 512), ("judge.grade", 512)} >= {("weak.answer", 100), ("weak.answer", 108)}
    assert ("weak.answer", 40) not in rooms
    missing = {row["name"]: row["missing_markers"] for row in report["table"]}
    assert missing == {"base": None, "distill": 6}


# phase 3


async def test_each_turn_has_its_row_its_lengths_and_its_margin(simulation: Simulation):
    skills = iter([0.6, 0.9])
    world = World(0.4, train=lambda request, before: next(skills))
    world.training = lambda request: {
        "mean_tokens_chosen": 12.5, "mean_tokens_rejected": 9.25, "margin_first": 0.0, "margin": 0.75, "reward_accuracy": 0.875,
    }  # fmt: skip
    evolve = {"turns": 2, "strategy": "best_of_n"}
    report = await simulation.job(world, questions(), phases=["evolve"], evolve=evolve, evaluation=only())
    assert [row["name"] for row in report["table"]] == ["base", "evolve-1", "evolve-2", "evolve"]
    by_name = {row["name"]: row for row in report["table"]}
    assert by_name["evolve-2"]["adapter"] == by_name["evolve"]["adapter"] != by_name["evolve-1"]["adapter"]
    screen, text = shown(report), as_markdown(read_report(report))
    assert "phase 3, evolve, turn 1" in screen
    assert "evolve, turn 2: " in screen
    figures = "of the trained pairs 12.5 chosen, 9.25 rejected; margin 0.000 -> 0.750, chosen preferred in 88% of them"
    assert figures in screen
    search = report["phases"]["evolve"]["turns"][1]["search"]
    assert f"mean tokens {search['mean_tokens_chosen']} chosen, {search['mean_tokens_rejected']} rejected" in text
    assert figures in text
    assert "| phase 3, evolve, turn 1 |" in text


async def test_one_turn_is_the_phase(simulation: Simulation):
    world = World(0.4, train=lambda request, before: 0.9)
    report = await simulation.job(world, questions(), phases=["evolve"], evaluation=only())
    assert [row["name"] for row in report["table"]] == ["base", "evolve"]


# prompts, power


async def test_the_report_names_the_versions_of_all_prompts(simulation: Simulation):
    report = await simulation.job(World(), questions(), **DISTILL, evaluation=only())
    silent = (
        StepKind.GRADE,
        StepKind.AGREE,
        StepKind.READ,
        StepKind.ASK,
        StepKind.PROPOSE,
        StepKind.COMPLETE,
        StepKind.CHECK,
    )  # those from READ on are of imports and evals
    asked = [kind for kind in StepKind if kind.queue in ("weak", "strong", "judge") and kind not in silent]
    assert report["prompts"] == {kind.value: STEP_KINDS[kind].version for kind in asked}
    line = "Versions of the prompts: " + ", ".join(f"{kind.value} {STEP_KINDS[kind].version}" for kind in asked)
    assert line in as_markdown(read_report(report))
    assert line in shown(report)


def test_power_goes_by_the_spread_that_was_measured():
    gains = [0.5, 0.0, 0.5, -0.25] * 15
    spread = stdev(gains)
    measured = power_of(gains, is_base=False)
    assert measured == Power(
        n=60,
        chance_to_see_5_points=round(power(60), 2),
        measured_spread=round(spread, 4),
        chance_by_measured_spread=round(power(60, spread=spread), 2),
        questions_for_80_percent=questions_needed(spread),
    )
    assert measured.chance_by_measured_spread != measured.chance_to_see_5_points
    itself = power_of([0.0] * 60, is_base=True)
    assert itself.measured_spread is itself.questions_for_80_percent is None
