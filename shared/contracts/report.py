"""The report of a distillation job. The orchestrator builds a `Report` and stores its JSON as an artifact; API, CLI, page
and model card read it with `read_report`, which upgrades reports of earlier versions.

Intervals are 95 % intervals. Scores, shares and rates are in [0, 1].
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from shared.contracts.jobs import Usage
from shared.contracts.json_types import Json
from shared.contracts.phase_records import PhaseRecords
from shared.contracts.refusals import RefusedRow
from shared.contracts.report_part import Decision, ReportPart, Triple

REPORT_VERSION = 2  # version 1 has no field `version`


# --- measuring ---


class WinRecord(ReportPart):
    """Questions on which a model scored higher, the same and lower than another."""

    win: int
    tie: int
    loss: int


class TableRow(ReportPart):
    """One model on the test split. metrics: by grader; gain_over_base: paired, in the primary metric.

    adapter: content hash of what was trained. draws: the scores are means over so many draws of worked examples.
    too_long: questions that exceed the model's context; they count as wrong. cut_off: answers that ended at answer_tokens and count
    as they are; missing in reports from before they were counted. missing_markers: answers without the rationale
    and marker that the model was trained to write, None if it was not. scores: the primary metric, question by question.
    """

    name: str
    adapter: str | None
    n: int
    draws: int
    metrics: dict[str, Triple]
    gain_over_base: Triple
    too_long: int
    cut_off: int | None = None
    missing_markers: int | None
    against_base: WinRecord | None
    scores: list[float]


class FinalModel(ReportPart):
    """The final model against every other row of the table: paired gains in the primary metric (over) and by grader."""

    name: str
    adapter: str | None
    over: dict[str, Triple]
    by_metric: dict[str, dict[str, Triple]]
    record: dict[str, WinRecord]


class DevResult(ReportPart):
    """The final model on the questions of dev that decide; experiments compare variants by `scores`. Where rounds or turns were chosen
    on a part of dev, chosen_on is its number of questions, and places are those of the others among all measured ones, from 0."""

    n: int
    value: Triple
    scores: list[float]
    chosen_on: int | None = None
    places: list[int] | None = None


class Measuring(ReportPart):
    """What measures students: "references" or "judge". The counts are of the judge's comparisons, if it measures.

    without_reference: questions by split.
    """

    by: str
    without_reference: dict[str, int]
    compared: int | None = None
    calls: int | None = None
    unparsed: int | None = None
    flipped: int | None = None


class UsedFile(ReportPart):
    """A file of the job, and the version that it is of a dataset (named by its first version's file). left: rows of its dev and test
    that still have something in common with a row of another split, by what (as in the file's `reading`).

    What was dropped or changed before the job saw it, in rows: skipped by reason; notes, such as a reference that is not used;
    ignored_fields by name; masked, personal data by kind.
    """

    field: str
    file: str
    dataset: str
    version: int
    left: dict[str, int]
    skipped: dict[str, int] = Field(default={})
    notes: dict[str, int] = Field(default={})
    ignored_fields: dict[str, int] = Field(default={})
    masked: dict[str, int] = Field(default={})


class DataQuality(ReportPart):
    """conflicting_ids: the first groups of rows that ask the same question and have different references. files: those of the job."""

    without_reference: dict[str, int]
    conflicting_references: int
    conflicting_ids: list[list[str]]
    files: list[UsedFile] = Field(default=[])


class Power(ReportPart):
    """The chance that a true gain of 5 points is seen on n questions, by the default spread of a gain and the measured one."""

    n: int
    chance_to_see_5_points: float
    measured_spread: float | None
    chance_by_measured_spread: float | None
    questions_for_80_percent: int | None


# --- decisions ---


class PhaseDecision(ReportPart):
    """A phase's student against the one it was trained from (against: "base", or an earlier phase), on n questions of dev."""

    phase: str
    decision: Decision
    gain_on_dev: Triple
    against: str | None = None
    n: int | None = None
    record: WinRecord | None = None


class ReportVerdict(ReportPart):
    """What the test table shows. beaten: baselines that the final model's whole interval lies above."""

    beats_base: bool
    beaten: list[str]
    not_beaten: list[str]
    words: str


class ForgettingRecord(ReportPart):
    """General questions answered right by base and final model. guarded: forgot more than the job allows."""

    n: int
    base: Triple
    final: Triple
    change: Triple
    missing_markers: int | None
    guarded: bool


class Promotion(ReportPart):
    """against: "base" or "served"; compared_with: alias@version of the latter. model: alias@version, if one was published; served_meanwhile: the
    version that its alias served by then instead of the one compared with, so that a promoted model is not served. look: how often the dataset's dev split has now
    decided about this alias; level: that of the interval which decided this time (gain's is at 95 %). n: questions of dev that decided;
    record: of them."""

    state: Decision
    against: str
    model: str | None
    gain: Triple | None
    forgetting: ForgettingRecord | None
    look: int = 1
    level: float = 0.95
    n: int | None = None
    record: WinRecord | None = None
    compared_with: str | None = None
    served_meanwhile: str | None = None


# --- the judge ---


class JudgeFigures(ReportPart):
    """The judge's own error rates over n pairs, each shown in both orders.

    length_bias: how much more often the longer answer won than it was better; None if nothing says which is better.
    """

    n: int
    unparsed: int
    flip_rate: Triple
    preferred_the_first_shown: Triple
    preferred_the_longer: Triple
    length_bias: Triple | None
    warnings: list[str]


class Agreement(ReportPart):
    """How often the judge agrees with human preferences; see shared.evaluation.judge_quality.agreement."""

    agreement: Triple
    chance: float
    kappa: float | None
    decided: Triple
    n_decided: int
    better_than_chance: bool | None


class LabelAgreement(JudgeFigures, Agreement):
    """The judge against human preferences: its error rates, and its agreement."""


class JudgeReplies(ReportPart):
    """The judge's replies in the whole job. mended: with slips that were read as they are meant. repairs: asked for once more,
    because they could not be read; of all such replies cut_off ended at judge.max_tokens and empty held no text."""

    calls: int
    mended: int
    repairs: int
    cut_off: int
    empty: int


class JudgeReport(ReportPart):
    """rests_on_it: parts of the job that take the judge's word. decides: False if it is no better than chance on the labels.
    replies: how they were to read; missing if the judge was not asked."""

    rests_on_it: list[str]
    labels: LabelAgreement | None
    decides: bool
    warnings: list[str]
    replies: JudgeReplies | None = None


class Criterion(WinRecord):
    """The final model against the base by one criterion. share: ties split."""

    share: Triple


class AbsoluteScore(ReportPart):
    """Mean scores from 1 to 10 and the paired gain."""

    base: Triple
    final: Triple
    gain: Triple


class AbsoluteScores(ReportPart):
    """n: questions where both answers were scored. unparsed: answers without a score, of "base" and "final"."""

    n: int
    unparsed: dict[str, int]
    criteria: dict[str, AbsoluteScore]


class JudgedComparison(ReportPart):
    """The final model against the base by the judge (paper section 4). ended: why no more questions were compared."""

    n: int
    wanted: int
    ended: Literal["margin_reached", "questions_used_up", "budget_used_up"]
    calls: int
    max_calls: int | None
    criteria: dict[str, Criterion]
    absolute: AbsoluteScores | None
    judge: JudgeFigures


# --- the whole ---


class Timing(ReportPart):
    """busy_seconds: the union of its steps' running times."""

    busy_seconds: float
    steps: int


class SampleAnswers(ReportPart):
    """A test question with the answers of base and final model."""

    question: str
    reference: str | None
    base: str
    final: str


class MaterialShown(ReportPart):
    """What teacher and judge were shown and no student was. texts: content hashes of the job's own, of `bytes` in all; rows: questions of
    the phases that have material of their own."""

    texts: list[str]
    bytes: int
    rows: int


class Report(ReportPart):
    """table: the base first. prompts: the version of each prompt by step kind. rows: by split; teacher and timings: by phase.
    refused: rows that a provider always refused, with its words; absent without any. material: absent without any."""

    object: Literal["distillation.report"] = "distillation.report"
    version: int = REPORT_VERSION
    job: str
    domain: str
    student: str
    method: str
    seed: int
    prompts: dict[str, int]
    primary_metric: str
    measured: Measuring
    rows: dict[str, int]
    data: DataQuality | None
    warnings: list[str]
    table: list[TableRow] = Field(min_length=1)
    final: FinalModel
    dev: DevResult | None
    verdict: ReportVerdict | None
    decisions: list[PhaseDecision]
    judged: JudgedComparison | None
    judge: JudgeReport | None
    promotion: Promotion
    power: Power
    phases: PhaseRecords
    teacher: dict[str, Usage]
    timings: dict[str, Timing]
    samples: list[SampleAnswers]
    refused: list[RefusedRow] | None = None
    material: MaterialShown | None = None

    @property
    def graders(self) -> list[str]:
        return list(self.table[0].metrics)

    @property
    def final_row(self) -> TableRow:
        return next(row for row in self.table if row.name == self.final.name)


def read_report(stored: Mapping[str, Any]) -> Report:
    """A stored report of this or an earlier version. Fields that this version does not know are ignored."""
    report = _from_version_1(stored) if "version" not in stored else stored
    return Report.model_validate(report, extra="allow")


def _from_version_1(report: Mapping[str, Any]) -> Json:
    """Fills in what the first releases did not write."""
    final, primary, phases = report["final"], report["primary_metric"], report["phases"]
    absent = dict.fromkeys(("data", "dev", "verdict", "judged", "judge"))
    whole = absent | {
        "method": "lora",
        "prompts": {},
        "measured": {"by": "references", "without_reference": {}},
        "warnings": [],
        "samples": [],
    }
    row = {"draws": 1, "too_long": 0, "missing_markers": None, "against_base": None, "scores": []}
    by_metric = {name: {primary: gain} for name, gain in final["over"].items()}
    spread = dict.fromkeys(("measured_spread", "chance_by_measured_spread", "questions_for_80_percent"))
    parts = {
        "table": [row | given for given in report["table"]],
        "final": {"by_metric": by_metric, "record": {}} | final,
        "promotion": {"gain": None, "forgetting": None} | report["promotion"],
        "power": spread | report["power"],
        "phases": phases | {name: upgrade(phases[name]) for name, upgrade in _PHASES.items() if name in phases},
    }
    return whole | dict(report) | parts


def _distill_1(record: Json) -> Json:
    return {"answers": "teacher", "guidance": None} | record


def _iterate_1(record: Json) -> Json:
    counts = ("undecidable", "passed", "corrected", "unparsed_verdicts", "leaked_hints", "too_long", "missing_markers",
              "with_rationale")  # fmt: skip
    first = dict.fromkeys(counts, 0) | {"dropped_corrections": {}, "asked_by_try": []}
    return record | {"rounds": [first | given for given in record["rounds"]]}


def _evolve_1(record: Json) -> Json:
    return record | {"turns": [{"strategy": "beam", "search": {}} | given for given in record["turns"]]}


_PHASES = {"distill": _distill_1, "iterate": _iterate_1, "evolve": _evolve_1}
