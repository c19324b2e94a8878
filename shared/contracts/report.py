"""The report of a distillation job. The orchestrator builds a `Report` and stores its JSON as an artifact; API, CLI, page
and model card read it with `read_report`, which upgrades reports of earlier versions.

Intervals are 95 % intervals. Scores, shares and rates are in [0, 1].
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from shared.contracts.estimate import Estimate
from shared.contracts.jobs import Usage
from shared.contracts.json_types import Json
from shared.contracts.refusals import RefusedRow

REPORT_VERSION = 2  # version 1 has no field `version`
Decision = Literal["promoted", "undecided", "rejected"]


class Triple(NamedTuple):
    """An estimate with its interval; a JSON array [value, low, high]. Of no width: the model is compared with itself.

    f"{triple:+.3f}" is "+0.100 [+0.050, +0.150]".
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


GATE = 0.15  # pass@n less pass@1 below which there is little to select
NOTHING = Triple(0.0, 0.0, 0.0)


def _is_none(value: Any) -> bool:
    return value is None


class ReportPart(BaseModel):
    """An optional field that was not set is left out of the JSON; one that was set to None is null."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler):
        fields = serialize(self)
        return {name: value for name, value in fields.items() if value is not None or name in self.model_fields_set}


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
    skipped: dict[str, int] = {}
    notes: dict[str, int] = {}
    ignored_fields: dict[str, int] = {}
    masked: dict[str, int] = {}


class DataQuality(ReportPart):
    """conflicting_ids: the first groups of rows that ask the same question and have different references. files: those of the job."""

    without_reference: dict[str, int]
    conflicting_references: int
    conflicting_ids: list[list[str]]
    files: list[UsedFile] = []


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
    """against: "base" or "served". model: alias@version, if one was published. look: how often the dataset's dev split has now
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


# --- the phases ---


class Figures(ReportPart):
    """Figures of a worker's step; those without a field of their own are kept too."""

    model_config = ConfigDict(extra="allow")

    mean_tokens_chosen: float | None = None
    mean_tokens_rejected: float | None = None


class HeldOut(ReportPart):
    """What a preference training did to so many pairs that it did not see; each figure before (_first) and after it.

    preferred: share of the pairs of which the student finds the chosen side likelier, by mean log-probability of a token, without a
    reference model. margin: by how much, in nats per token. chosen: mean log-probability of the chosen side's tokens, in nats.
    """

    pairs: int
    preferred_first: float
    preferred: float
    margin_first: float
    margin: float
    chosen_first: float
    chosen: float


class TrainingFigures(Figures):
    """Means over the first and the last quarter of a training's steps; margins and reward_accuracy are of DPO, on the pairs that it is
    trained on."""

    loss_first: float | None = None
    loss: float | None = None
    dropped_too_long: int | None = None
    margin_first: float | None = None
    margin: float | None = None
    reward_accuracy: float | None = None
    held_out: HeldOut | None = None


class StudentNll(ReportPart):
    """The student's mean token NLL in nats on the teacher's unguided and guided responses to n questions."""

    n: int
    unguided: float | None
    guided: float | None
    change: Triple | None


class JudgeGate(ReportPart):
    """The judge on n pairs of a right answer and one to another question, each shown in both orders. told: share that it decided
    rightly in both, ties split; turned: pairs whose verdicts turn with the order. unparsed: pairs without a verdict. passed: it may
    decide in this job."""

    n: int
    told: float
    turned: int
    unparsed: int
    passed: bool


class PilotRecord(ReportPart):
    """usable: responses by guidance. compared to student_nll: only if both ways of asking were tried. cut_off: "answers" of the
    teacher, "guidelines" of the student that ended at their limit of tokens."""

    questions: int
    usable: dict[str, int]
    cut_off: dict[str, int] | None = None
    compared: int | None = None
    gain: Triple | None = None
    decision: Decision | None = None
    student_nll: StudentNll | None = None
    judge: JudgeGate | None = None
    guidance: str
    estimate: Estimate | None = None


class AgreementRecord(ReportPart):
    """Of how many of the `samples` answers to a question one was agreed on. mean: share of the votes, over the questions with a usable
    answer. questions_by_votes: questions by the votes for their answer; those with one vote have no agreement and were dropped."""

    samples: int
    mean: float
    questions_by_votes: dict[str, int]


class DistillRecord(ReportPart):
    """dropped: responses by reason. cut_off_guidelines: those that ended at guideline_tokens, which the teacher was not shown.
    answers: "teacher" or "references"; guidance: None without a teacher. agreement: where the teacher was asked several times.
    from_reference: questions whose reference was learned because no answer of the teacher's passed the grader."""

    questions: int
    kept: int
    dropped: dict[str, int]
    cut_off_guidelines: int = 0
    answers: str
    guidance: str | None
    agreement: AgreementRecord | None = Field(default=None, exclude_if=_is_none)
    from_reference: int | None = Field(default=None, exclude_if=_is_none)
    training: TrainingFigures = TrainingFigures()


class DevGain(ReportPart):
    """A round's student against the best one before it. kept: it is the best one now."""

    gain: Triple
    kept: bool


class SampleFigures(ReportPart):
    """Several answers to each of so many questions, as they were drawn before training. verified: questions whose answers a grader
    or the judge verified; of the others the answers that agree pass. samples: of each question.

    pass_at: by k the chance that one of k samples passes, over the verified questions (Chen et al. 2021). agreed: mean share of
    the samples that are the commonest answer; distinct: mean number of different answers, both by the grader's equality.
    cut_off: samples that ended at their limit. too_long: questions that do not fit into the student's context. kept: answers
    to train on; in phase 3 pairs. reward: mean score of the samples by judge.grader, cut-off ones as 0.
    """

    questions: int
    verified: int
    samples: int
    pass_at: dict[str, float]
    agreed: float | None
    distinct: float | None
    cut_off: int
    too_long: int
    kept: int
    reward: float | None = Field(default=None, exclude_if=lambda reward: reward is None)

    @property
    def gate(self) -> float | None:
        """What selection can win: pass@n less pass@1; None where nothing was verified."""
        one, all_ = self.pass_at.get("1"), self.pass_at.get(str(self.samples))
        return None if one is None or all_ is None else all_ - one

    @property
    def gate_closed(self) -> bool:
        return self.gate is not None and self.gate < GATE

    @property
    def words(self) -> str:
        rates = ", ".join(f"pass@{k} {rate:.0%}" for k, rate in self.pass_at.items())
        parts = [f"{self.samples} samples each of {self.questions} questions"]
        if rates:
            parts.append(f"{rates} of {self.verified} verified")
        if self.reward is not None and f"{self.reward:.2f}" != f"{self.pass_at.get('1', 0):.2f}":
            parts.append(f"mean reward {self.reward:.3f}")
        if self.agreed is not None:
            parts.append(f"{self.agreed:.0%} of a question's samples agree, {self.distinct:.1f} distinct answers")
        parts += [
            f"{count} {what}" for count, what in ((self.cut_off, "cut off"), (self.too_long, "too long")) if count
        ]
        return "; ".join(parts)

    @property
    def gate_words(self) -> str:
        return (
            f"pass@{self.samples} is only {100 * (self.gate or 0):.0f} points above pass@1: the student has hardly a right answer to "
            "find that it does not give already. A better phase 1, more questions or a higher temperature may open the gap"
        )


class RoundRecord(ReportPart):
    """One round of phase 2. undecidable: questions that were not tried, because nothing can tell what passes.

    sampled: what was drawn, of fresh questions alone; missing in the paper's loop. asked_by_try: answers of each try; pass_rate:
    share of questions that passed within the first t tries. cut_off: of these answers ended at answer_tokens, so they passed
    with nobody.
    training is missing if nothing passed, dev if there is one round only.
    """

    questions: int
    undecidable: int
    passed: int
    corrected: int
    dropped_corrections: dict[str, int]
    asked_by_try: list[int]
    pass_rate: list[float]
    unparsed_verdicts: int
    leaked_hints: int
    too_long: int
    cut_off: int = 0
    missing_markers: int
    with_rationale: int
    sampled: SampleFigures | None = None
    training: TrainingFigures | None = None
    dev: DevGain | None = None


class IterateRecord(ReportPart):
    rounds: list[RoundRecord]


class ReferencePairs(ReportPart):
    """Pairs whose chosen side is the record's reference, and the questions that they belong to: no sample of these passed."""

    questions: int
    pairs: int


class EvolveIteration(ReportPart):
    """One turn of phase 3. strategy: of the search, or "file". pairs: held out ones included. dropped: pairs by reason; of samples,
    questions without a pair. sampled: what was drawn; missing where the trainer searched. from_references: of the pairs; missing
    unless the job sets evolve.unsolved to reference. dev: its student against the best turn before it, on the part of dev that turns
    are chosen on; missing for the first."""

    strategy: str
    questions: int
    pairs: int
    dropped: dict[str, int]
    search: Figures
    sampled: SampleFigures | None = None
    from_references: ReferencePairs | None = None
    training: TrainingFigures | None = None
    dev: DevGain | None = None


class EvolveRecord(ReportPart):
    turns: list[EvolveIteration]


class PhaseRecords(ReportPart):
    """A stage that the job does not have is missing."""

    pilot: PilotRecord | None = None
    distill: DistillRecord | None = None
    iterate: IterateRecord | None = None
    evolve: EvolveRecord | None = None

    @property
    def rounds(self) -> list[RoundRecord]:
        return self.iterate.rounds if self.iterate else []

    @property
    def turns(self) -> list[EvolveIteration]:
        return self.evolve.turns if self.evolve else []

    def sampled(self) -> list[tuple[str, SampleFigures]]:
        """(name, figures) of what phases 2 and 3 drew, in order."""
        rounds = [(f"phase 2, round {number}", record.sampled) for number, record in enumerate(self.rounds, start=1)]
        turns = [(f"phase 3, turn {number}", record.sampled) for number, record in enumerate(self.turns, start=1)]
        return [(name, figures) for name, figures in (*rounds, *turns) if figures is not None]

    def trainings(self) -> list[tuple[str, TrainingFigures]]:
        """(name, figures) of every training, in the order of the method."""
        phases = [("phase 1", self.distill)] if self.distill else []
        rounds = [(f"phase 2, round {number}", record) for number, record in enumerate(self.rounds, start=1)]
        turns = [(f"phase 3, turn {number}", record) for number, record in enumerate(self.turns, start=1)]
        return [(name, record.training) for name, record in (*phases, *rounds, *turns) if record.training is not None]


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
    refused: rows that a provider took never, with its words; absent without any. material: absent without any."""

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
