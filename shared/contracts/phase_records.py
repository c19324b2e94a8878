"""What each phase writes into the report: how many questions it asked, what became of the texts, what it trained on."""

from typing import Any

from pydantic import ConfigDict, Field

from shared.contracts.estimate import Estimate
from shared.contracts.report_part import Decision, ReportPart, Triple

GATE = 0.15  # pass@n less pass@1 below which there is little to select


def _is_none(value: Any) -> bool:
    return value is None


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
    reward: float | None = Field(default=None, exclude_if=_is_none)

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
