"""What a job is asked to do: its phases and their settings, the `distillation` object of a request."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StrictInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from shared.contracts.canary import CanaryTerms
from shared.contracts.grader_kinds import GivenGrader, Grader, NumberGrader, VerifyingGrader, name_of
from shared.contracts.json_types import Number, Switch, Whole
from shared.contracts.material import LONGEST
from shared.contracts.refusals import MOST
from shared.contracts.steps import AdapterConfig, Dtype, Method, Optim, Strategy
from shared.contracts.strict import NO_NUL, Strict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_name(name: str) -> str:
    """An alias or a provider's name: letters, digits, dot, dash, underscore; no slash, so it cannot be a path."""
    if not NAME.fullmatch(name) or ".." in name:
        raise ValueError("use 1-64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
    return name


Name = Annotated[str, AfterValidator(checked_name)]


class Phase(StrEnum):
    DISTILL = "distill"
    ITERATE = "iterate"
    EVOLVE = "evolve"


class Guidance(StrEnum):
    """weak: the student writes guidelines for the teacher (the paper).  none: plain distillation.  best: per question,
    whichever answer is better.  auto: weak or none, as the pilot finds; none where it cannot tell."""

    AUTO = "auto"
    WEAK = "weak"
    NONE = "none"
    BEST = "best"


JUDGE = (
    "judge"  # stands in reports for a grader's name where there are no references: preference over the base's answers
)


def _whole_if_it_is(epochs: float) -> int | float:
    """1, not 1.0: it is a whole number for OpenAI's typed clients. Ours may be a part of an epoch."""
    return int(epochs) if float(epochs).is_integer() else epochs


Epochs = Annotated[
    StrictInt | Number,
    Field(gt=0, le=100),
    AfterValidator(_whole_if_it_is),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 100}),
]


class Hyperparameters(Strict):
    """OpenAI's names. learning_rate_multiplier scales the learning rate of every phase."""

    n_epochs: Epochs | Literal["auto"] = "auto"
    batch_size: Annotated[Whole, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    learning_rate_multiplier: Annotated[Number, Field(gt=0, le=100)] | Literal["auto"] = "auto"


class Adapter(AdapterConfig):
    """method full trains all weights instead of an adapter: of the other settings only max_length, optim and dtype are read then,
    and the phases' learning rates are the paper's where the job names none.

    use_dora: weight-decomposed LoRA; a whole model is published. load_in_4bit: the base is held in 4 bits (NF4) while an adapter is
    trained (QLoRA). optim: moments of 8 bits take a quarter of the memory. dtype bfloat16 halves weights and gradients of method
    full; it needs optim adamw_8bit, which rounds at random, for small steps would be lost otherwise."""

    method: Method = Method.LORA

    @model_validator(mode="after")
    def _settings_that_agree(self) -> "Adapter":
        if self.method is Method.FULL:
            for name in ("use_dora", "load_in_4bit"):
                if getattr(self, name):
                    raise ValueError(f"{name}: only an adapter is trained so; leave it out, or set method to lora")
            if self.dtype is Dtype.BFLOAT16 and self.optim is not Optim.ADAMW_8BIT:
                raise ValueError("dtype: bfloat16 needs optim adamw_8bit; other optimizers lose small steps in it")
        elif self.dtype is Dtype.BFLOAT16:
            raise ValueError(
                "dtype: an adapter is trained in float32 whatever its base is in; set method to full, or leave it out"
            )
        return self

    @property
    def is_whole(self) -> bool:
        """Whether a whole model is published."""
        return self.method is Method.FULL or self.use_dora


# Settings whose default depends on others.
FOLLOWING = (
    ("distill", "learning_rate"), ("iterate", "train_from"), ("iterate", "epochs"), ("iterate", "learning_rate"),
    ("evolve", "sft_weight"), ("evolve", "held_out"), ("evolve", "learning_rate"),
)  # fmt: skip
FULL_RATES = {"distill": 3e-5, "iterate": 3e-5, "evolve": 1e-5}  # the paper's; an adapter wants larger ones


MOST_CONTEXTS = 20
SAMPLED_AT = 0.7  # the temperature of several samples of the teacher's (Wang et al. 2022)
GivenContext = Annotated[str, Field(max_length=LONGEST, pattern=NO_NUL)]


def contexts(given: str | list[str] | None) -> list[str]:
    return given if isinstance(given, list) else [] if given is None else [given]


Keep = Literal["agreed", "all", "passing"]


class Teacher(Strict):
    """A configured provider by name (never a key), and how it is asked. ground: show it the record's reference.

    context: a text, or the id of an uploaded text file, or several: a schema, a manual, a style guide. Teacher and judge are
    shown it with every question; students never are. A row's own context is its field `teacher_context`.
    batch: use the provider's batch API, for about half the price. Answers come within a day, not within seconds.
    samples: answers that are drawn to each question. One that most samples agree on is learned, by the equality of judge.grader
    or else primary_metric; its weight is their share. Needs a temperature above 0; the default is then 0.7.
    keep: with `all` phase 1 learns every distinct sample instead, weighted by its share: plain distillation of as many tokens.
    With `passing`, if the record has a reference, a sample that judge.grader passes is learned, or else the reference itself;
    the pilot looks at the teacher's own answers all the same.
    """

    provider: Name = "default"
    temperature: Number = Field(default=0.0, ge=0, le=2)
    max_tokens: Whole = Field(default=512, ge=1, le=32_768)
    ground: Switch = True
    context: GivenContext | list[GivenContext] | None = Field(default=None)
    batch: Switch = False
    samples: Whole = Field(default=1, ge=1, le=32)
    keep: Keep = "agreed"

    @model_validator(mode="after")
    def _samples_that_differ(self) -> "Teacher":
        if self.samples > 1 and "temperature" not in self.model_fields_set:
            self.temperature = SAMPLED_AT
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                "samples: at temperature 0 all samples are one answer; raise temperature (0.7 where it is left out), or ask for 1"
            )
        return self

    @field_validator("context")
    @classmethod
    def _some_contexts(cls, given: str | list[str] | None) -> str | list[str] | None:
        if isinstance(given, list) and not 1 <= len(given) <= MOST_CONTEXTS:
            raise ValueError(f"context: one text or file id, or 1 to {MOST_CONTEXTS} of them in a list")
        if given is not None and not all(part.strip() for part in contexts(given)):
            raise ValueError("context: a blank text says nothing; leave it out")
        return given

    @property
    def contexts(self) -> list[str]:
        """Texts and ids of files, in order."""
        return contexts(self.context)


ANALYSIS_TOKENS = 128  # of a reply with an analysis, at least


class Judge(Strict):
    """Who says whether an attempt passed. grader: decides where a record has a reference; the judge writes the hints.

    labels: on so many of the project's labels at most (POST /v1/labels) the judge is measured before its word counts.
    batch: as the teacher's. analysis: it writes two or three sentences of analysis before each verdict, within max_tokens.
    """

    provider: Name = "default"
    max_tokens: Whole = Field(default=256, ge=16, le=8192)
    analysis: Switch = False
    grader: GivenGrader | None = None
    labels: Whole = Field(default=50, ge=0, le=1000)
    pass_mark: Number = Field(default=1.0, gt=0, le=1)
    batch: Switch = False

    @model_validator(mode="after")
    def _room_for_an_analysis(self) -> "Judge":
        if self.analysis and self.max_tokens < ANALYSIS_TOKENS:
            raise ValueError(
                f"max_tokens: {self.max_tokens} tokens hold no analysis and a verdict; set at least {ANALYSIS_TOKENS}, or analysis to false"
            )
        return self


class PilotSettings(Strict):
    """Before phase 1 the teacher answers a few questions of the train split, to see whether its answers can be used and guidance helps.

    questions: how many. judge_pairs: how many times the judge compares a right answer with one to another question, in both orders;
    a judge that cannot tell them apart decides nothing. Asked only if the job relies on the judge.
    """

    questions: Whole = Field(default=16, ge=4, le=512)
    judge_pairs: Whole = Field(default=0, ge=0, le=64)


class DistillSettings(Strict):
    """Phase 1. questions: how many of the train split (None: all that iterate and evolve leave).

    answers: whose answers the student learns. With `references` the records' own stand in for the teacher, who is not
    asked: plain supervised fine-tuning, which phases 2 and 3 may build on. Rows with a reference then come to phase 1 first.

    rationale: on: the teacher writes a short reasoning, the marker and the answer; the answer alone is graded, both are learned.
    auto: on where the job compares numbers (grader `number`), else off. rationale_tokens: how much longer than answer_tokens the
    student's texts may be for it, everywhere in the job and in chat.
    """

    questions: Whole | None = Field(default=None, ge=1)
    answers: Literal["teacher", "references"] = "teacher"
    guideline_tokens: Whole = Field(default=128, ge=8, le=4096)
    rationale: Literal["auto", "on", "off"] = "auto"
    rationale_tokens: Whole = Field(default=192, ge=16, le=8192)
    epochs: Number = Field(default=3, gt=0, le=100)
    learning_rate: Number = Field(default=2e-4, gt=0, le=1)


class IterateSettings(Strict):
    """Phase 2. strategy: `critique` is the paper's loop of answers and hints. `sample` draws `samples` answers to each question at
    sample_temperature and trains on those that pass, at most `keep` distinct ones per question; no strong model is asked.
    `both` samples first; questions of which no sample passed then go through the loop.

    tries: answers per question and round in the loop, the first included (the paper: 3).
    without_reference: which samples pass if no grader can decide: answers that more than the share `agreement` of a
    question's samples agree on, or answers that the judge calls right.
    reuse_questions: sample phase 1's questions too. Pass rates are those of the fresh questions only.
    on_failure: a question that never passed is dropped, or answered by the teacher.
    train_from: continue with the adapter on this round's answers (last), or train the base again on all answers so far (base).
    `sample` and `both` default to base, with phase 1's epochs and learning rate.
    Several rounds end early once dev shows no gain. round_questions: how many questions the first rounds have; the others share
    the rest evenly. A fork from a round fills it in, so that the earlier rounds do not change.
    """

    strategy: Literal["critique", "sample", "both"] = "critique"
    questions: Whole | None = Field(default=None, ge=1)
    rounds: Whole = Field(default=1, ge=1, le=20)
    round_questions: list[Annotated[Whole, Field(ge=1)]] = Field(default=[], max_length=20)
    tries: Whole = Field(default=3, ge=1, le=10)
    samples: Whole = Field(default=8, ge=2, le=64)
    sample_temperature: Number = Field(default=0.9, gt=0, le=2)
    keep: Whole = Field(default=4, ge=1, le=64)
    without_reference: Literal["agreement", "judge"] = "agreement"
    agreement: Number = Field(default=0.5, gt=0, lt=1)
    reuse_questions: Switch = False
    on_failure: Literal["drop", "teacher"] = "drop"
    train_from: Literal["last", "base"] = "last"
    retry_temperature: Number = Field(default=0.7, ge=0, le=2)
    epochs: Number = Field(default=1, gt=0, le=100)
    learning_rate: Number = Field(default=1e-4, gt=0, le=1)

    @model_validator(mode="after")
    def _rounds_that_there_are(self) -> "IterateSettings":
        if len(self.round_questions) > self.rounds:
            raise ValueError(f"round_questions: {len(self.round_questions)} numbers for {self.rounds} rounds")
        return self


class EvolveSettings(Strict):
    """Phase 3. strategy: what greedy decoding is compared with; or how `samples` answers to a question, drawn at
    `temperature`, become pairs_per_question pairs at most. verified: an answer that judge.grader passes against one that it does
    not, where there is a reference. agreement: an answer that more than the share `agreement` of the samples agree on against one
    with the fewest votes; the pair weighs as much as the votes differ (ScPO, arXiv 2411.04109). Neither asks a strong model.

    beta and sft_weight shape the length-normalised, anchored DPO loss. held_out: this share of the questions with pairs is not
    trained on; the report tells what training did to theirs. For verified and agreement sft_weight is 1 (as in Iterative RPO,
    arXiv 2404.19733), held_out 0.1 and learning_rate 5e-5, unless these are given.
    reuse_questions: draw samples for the questions of phases 1 and 2 too.
    unsolved: what verified does with a question of which no sample passes. drop: no pair. reference: the record's reference, if
    judge.grader passes it, against samples that fail.
    pairs: whose answers are compared. With `file` the records' references stand for the better and their `rejected` for the
    worse, and nothing is decoded: training on preferences, in one turn.
    growth: how many times more compute (beams or samples, at most 64) each further turn spends.
    """

    questions: Whole | None = Field(default=None, ge=1)
    pairs: Literal["decoding", "file"] = "decoding"
    turns: Whole = Field(default=1, ge=1, le=10)
    growth: Whole = Field(default=1, ge=1, le=8)
    strategy: Strategy = Strategy.BEAM
    beam_width: Whole = Field(default=10, ge=2, le=64)
    samples: Whole = Field(default=8, ge=2, le=64)
    temperature: Number = Field(default=0.8, gt=0, le=2)
    pairs_per_question: Whole = Field(default=4, ge=1, le=64)
    agreement: Number = Field(default=0.5, gt=0, lt=1)
    reuse_questions: Switch = False
    unsolved: Literal["drop", "reference"] = "drop"
    held_out: Number = Field(default=0.0, ge=0, le=0.5)
    search_batch: Whole = Field(default=4, ge=1, le=256)
    beta: Number = Field(default=2.0, gt=0, le=100)
    sft_weight: Number = Field(default=0.5, ge=0, le=10)
    epochs: Number = Field(default=1, gt=0, le=100)
    learning_rate: Number = Field(default=2e-5, gt=0, le=1)

    @model_validator(mode="after")
    def _one_turn_over_a_file(self) -> "EvolveSettings":
        if self.pairs == "file" and self.turns > 1:
            raise ValueError("turns: pairs of the file are the same in each turn; ask for more epochs")
        return self


class Baseline(StrEnum):
    """few_shot: the base with randomly drawn examples in its prompt.  few_shot_nearest: with those most like the
    question.  sft_references: the base trained on the references, without any teacher."""

    FEW_SHOT = "few_shot"
    FEW_SHOT_NEAREST = "few_shot_nearest"
    SFT_REFERENCES = "sft_references"


BASELINE_NAMES = {
    Baseline.FEW_SHOT.value: "base with random examples in its prompt",
    Baseline.FEW_SHOT_NEAREST.value: "base with the most similar examples in its prompt",
    Baseline.SFT_REFERENCES.value: "SFT on the references, no teacher",
}  # for people, in reports and on the screen


class EvaluationSettings(Strict):
    """graders: measured beside primary_metric. dev_questions, test_questions: largest sizes of the splits (seeded choice).

    shots: worked examples of the few-shot baselines. shot_seeds: random draws of them that are averaged, question by question,
    because one draw may be lucky.

    forgetting: general questions (METEOR's own) that the base and the final model answer; the report gives the loss. With
    forgetting_margin a student that significantly lost more than that share is not promoted.

    judged_questions: test questions, at most, on which the judge compares the final model with the base, five criteria in
    both orders, until the share is known to +- judged_margin. Each costs two calls to the judge, and two more with
    absolute_scores, which has it also score both answers from 1 to 10. max_judge_calls: limit of all these calls; one question
    may cost eight, if every reply has to be asked for again. If the judge measures because references are missing, those calls
    count too, and a job whose limit could not hold them is refused.
    """

    forgetting: Whole = Field(default=120, ge=0, le=120)
    forgetting_margin: Number | None = Field(default=None, ge=0, le=1)
    graders: list[GivenGrader] = Field(default=[Grader.FIRST_TOKEN, Grader.CHRF, Grader.ROUGE_L, Grader.STRING_CHECK])
    baselines: list[Baseline] = Field(default=list(Baseline))
    shots: Whole = Field(default=8, ge=1, le=64)
    shot_seeds: Whole = Field(default=1, ge=1, le=20)
    dev_questions: Whole | None = Field(default=None, ge=1)
    test_questions: Whole | None = Field(default=None, ge=1)
    judged_questions: Whole = Field(default=0, ge=0, le=10_000)
    judged_margin: Number = Field(default=0.1, gt=0, le=1)
    absolute_scores: Switch = True
    max_judge_calls: Whole | None = Field(default=None, ge=8)


class Budget(Strict):
    """What a job may spend at strong models; None: no limit. tokens: input and output together. calls: attempts that may
    have been paid for; cached answers do not count.

    on_exceed: what happens to the job when its next call might cost more than is left.
    """

    max_usd: Number | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_tokens: Whole | None = Field(default=None, ge=0, le=10**15)
    max_calls: Whole | None = Field(default=None, ge=0, le=10**12)
    on_exceed: Literal["pause", "fail"] = "pause"


class Distillation(Strict):
    """Everything of a job that OpenAI's object has no place for."""

    domain: str = Field(min_length=1, max_length=500)
    primary_metric: GivenGrader = Grader.CHRF
    phases: list[Phase] = Field(default=[Phase.DISTILL, Phase.ITERATE, Phase.EVOLVE])
    guidance: Guidance = Guidance.AUTO
    pause_after: Literal["pilot", "distill", "iterate", "evolve"] | None = None
    batch_size: Whole = Field(default=32, ge=1, le=512, description="questions per step")
    answer_tokens: Whole = Field(default=256, ge=1, le=8192, description="the student's longest answer, in tokens")
    most_refused: Number = Field(
        default=MOST,
        ge=0,
        le=1,
        description="share of a phase's rows that a provider may refuse; above it the job fails",
    )
    adapter: Adapter = Adapter()
    teacher: Teacher = Teacher()
    judge: Judge = Judge()
    budget: Budget = Budget()
    pilot: PilotSettings = PilotSettings()
    distill: DistillSettings = DistillSettings()
    iterate: IterateSettings = IterateSettings()
    evolve: EvolveSettings = EvolveSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    canary: CanaryTerms | None = Field(
        default=None,
        description="how a version that was promoted on dev is tried before its alias serves it; without it, and where the alias serves "
        "none, it is served at once",
    )

    @model_validator(mode="after")
    def _defaults_that_follow(self) -> "Distillation":
        """What was left out and depends on other settings; FOLLOWING names it."""
        full, anew = self.adapter.method is Method.FULL, self.iterate.strategy != "critique"
        for phase, rate in FULL_RATES.items() if full else ():
            self._left_out(phase, learning_rate=rate)
        if anew:
            self._left_out("iterate", train_from="base")
        if anew and self.iterate.train_from == "base":
            self._left_out("iterate", epochs=self.distill.epochs, learning_rate=self.distill.learning_rate)
        if self.contrasts:
            self._left_out("evolve", sft_weight=1.0, held_out=0.1, **({} if full else {"learning_rate": 5e-5}))
        return self

    def _left_out(self, phase: str, **values: Any) -> None:
        """Set what the request did not."""
        settings = getattr(self, phase)
        wanted = {name: value for name, value in values.items() if name not in settings.model_fields_set}
        setattr(self, phase, settings.model_copy(update=wanted))

    @model_validator(mode="after")
    def _phases_in_order(self) -> "Distillation":
        if not self.phases:
            raise ValueError("phases: name at least one of distill, iterate, evolve")
        order = list(Phase)
        places = [order.index(phase) for phase in self.phases]
        if places != sorted(set(places)):
            raise ValueError("phases: each at most once, in the order distill, iterate, evolve")
        if self.pause_after is not None and self.pause_after not in self.stages:
            raise ValueError(
                f"pause_after: {self.pause_after} is no stage of this job; it has {', '.join(self.stages)}"
            )
        return self

    @model_validator(mode="after")
    def _something_that_verifies(self) -> "Distillation":
        verified = Phase.EVOLVE in self.phases and self.contrasts and self.evolve.strategy is Strategy.VERIFIED
        if verified and self.judge.grader is None:
            raise ValueError(
                "evolve.strategy: verified needs judge.grader, which says what passes; agreement needs none"
            )
        return self

    @model_validator(mode="after")
    def _one_grader_of_a_kind(self) -> "Distillation":
        kinds: dict[str, VerifyingGrader] = {}
        for grader in self.verifying:
            if kinds.setdefault(name_of(grader), grader) != grader:
                raise ValueError(
                    f"{name_of(grader)} stands there twice with different settings; a job has one grader of a kind"
                )
        return self

    @model_validator(mode="after")
    def _unsolved_where_samples_are_verified(self) -> "Distillation":
        verified = self.contrasts and self.evolve.strategy is Strategy.VERIFIED
        if self.evolve.unsolved == "reference" and not verified:
            raise ValueError(
                "evolve.unsolved: reference needs evolve.strategy verified, which says of which questions no sample passes; set the "
                "strategy, or leave unsolved out"
            )
        return self

    @property
    def verifying(self) -> list[VerifyingGrader]:
        """All graders of the job that verify; one that stands in several places comes as often."""
        given = [self.primary_metric, *self.evaluation.graders, self.judge.grader]
        return [grader for grader in given if grader is not None and not isinstance(grader, Grader)]

    @property
    def contrasts(self) -> bool:
        """Whether phase 3 makes its pairs of samples."""
        return self.evolve.pairs != "file" and self.evolve.strategy.samples

    @model_validator(mode="after")
    def _one_answer_to_compare(self) -> "Distillation":
        if self.teacher.keep == "all" and self.guidance is Guidance.BEST:
            raise ValueError(
                "teacher.keep: guidance best compares one answer with another; set keep to agreed, or guidance to none or weak"
            )
        return self

    @model_validator(mode="after")
    def _something_that_passes_answers(self) -> "Distillation":
        if self.teacher.keep == "passing" and self.judge.grader is None:
            raise ValueError("teacher.keep: passing needs judge.grader, which says what passes; agreed needs none")
        return self

    @model_validator(mode="after")
    def _somebody_writes_rationales(self) -> "Distillation":
        if self.distill.rationale == "on" and not self._teacher_teaches:
            raise ValueError(
                "distill.rationale: the teacher writes rationales in phase distill, and this job asks none there; leave it out, or "
                "set phases and distill.answers so that the teacher answers"
            )
        return self

    @property
    def _teacher_teaches(self) -> bool:
        return Phase.DISTILL in self.phases and self.distill.answers == "teacher"

    @property
    def agreement_grader(self) -> Grader | VerifyingGrader:
        """By whose equality answers agree where no reference says what is right."""
        return self.judge.grader or self.primary_metric

    @property
    def reasons(self) -> bool:
        """Whether the teacher writes rationales that the student learns."""
        numbers = any(isinstance(grader, NumberGrader) for grader in (self.primary_metric, self.judge.grader))
        wanted = self.distill.rationale == "on" or (self.distill.rationale == "auto" and numbers)
        return wanted and self._teacher_teaches

    @property
    def student_tokens(self) -> int:
        """The longest text that the student may write: its answer, and the rationale before it where it learns to write one."""
        return self.answer_tokens + (self.distill.rationale_tokens if self.reasons else 0)

    @property
    def asks_nobody(self) -> bool:
        """Whether no phase asks a strong model, by the job's own words: it learns from the file, or from samples that graders verify or
        that agree."""
        sampled = self.iterate.strategy == "sample" and self.iterate.without_reference == "agreement"
        own = {
            Phase.DISTILL: self.distill.answers == "references",
            Phase.ITERATE: sampled and self.iterate.on_failure == "drop",
            Phase.EVOLVE: self.evolve.pairs == "file" or self.contrasts,
        }
        return all(own[phase] for phase in self.phases)

    @property
    def plain(self) -> bool:
        """Whether it is training on the file's own answers and nothing else: supervised, on preferences, or both."""
        own = {Phase.DISTILL: self.distill.answers == "references", Phase.EVOLVE: self.evolve.pairs == "file"}
        return all(own.get(phase, False) for phase in self.phases)

    @property
    def chooses(self) -> bool:
        """Whether dev says which of several rounds or turns is kept."""
        several = {Phase.ITERATE: self.iterate.rounds, Phase.EVOLVE: self.evolve.turns}
        return any(several.get(phase, 1) > 1 for phase in self.phases)

    @property
    def stages(self) -> list[str]:
        """What the job goes through and may pause after, in order."""
        return (["pilot"] if self._teacher_teaches else []) + [phase.value for phase in self.phases]
