"""What a phase may use of its job (`JobContext`), and what one phase hands to the next (`State`, `PhaseResult`).

All three are frozen. A phase reads context and state and returns a `PhaseResult`; only pipeline.py folds it into the next `State`.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from shared.artifacts.material import NO_MATERIAL, Material
from shared.contracts.data import Question, Split
from shared.contracts.distillation import JUDGE, Distillation, Guidance, Hyperparameters, Phase
from shared.contracts.estimate import Price
from shared.contracts.grader_kinds import Grader, VerifyingGrader, asks_elsewhere, name_of
from shared.contracts.jobs import Usage
from shared.contracts.refusals import RefusedRow
from shared.contracts.report import DistillRecord, EvolveRecord, IterateRecord, TrainingFigures, UsedFile
from shared.contracts.rows import Example, StudentPrompt, asked
from shared.contracts.step_key import StepKey
from shared.contracts.steps import (
    ALL_WEIGHTS,
    AdapterConfig,
    AgreeParams,
    JudgeParams,
    Method,
    ModelRef,
    Sampling,
    StepKind,
    StepResult,
    TeachParams,
    TrainParams,
    Wire,
)

T = TypeVar("T")
R = TypeVar("R")


class Step(Protocol):
    """Run one durable step or take its finished result. The key must not depend on time or on random order."""

    async def __call__(self, key: StepKey, kind: StepKind, params: Wire, rows: Sequence[Wire]) -> StepResult: ...


class Gather(Protocol):
    """flow(index, batch) over all batches of items at once; results in batch order."""

    async def __call__(
        self, flow: Callable[[int, Sequence[T]], Coroutine[Any, Any, R]], items: Sequence[T]
    ) -> list[R]: ...


class Emit(Protocol):
    """Add an event to the job; an event that a replay emits again is added once."""

    async def __call__(self, message: str, *, type: str = "message", level: str = "info", **data: Any) -> None: ...


@dataclass(frozen=True)
class State:
    """What the phases so far have come to.

    student: the model that the next phase starts from. guidance: how phase 1 asks the teacher, settled by the pilot.
    tries_judge: the pilot looks first whether the judge's replies can be read; gates_judge: and whether it tells a right answer from
    one to another question.
    judge_decides: False once human preferences or the gate show that the judge is no better than chance. examples: what students were
    trained on so far, in order. checkpoints: per phase the named students after each round or iteration, where it has several.
    writes_rationale: content hashes of the students that were trained to write a rationale. base_answers: the base's answers on dev.
    """

    student: ModelRef
    guidance: Guidance
    judge_decides: bool = True
    tries_judge: bool = False
    gates_judge: bool = False
    examples: Sequence[Example] = ()
    checkpoints: Mapping[Phase, Sequence[tuple[str, ModelRef]]] = field(default_factory=dict)
    writes_rationale: frozenset[str | None] = frozenset()
    base_answers: Sequence[str] = ()


@dataclass(frozen=True)
class PhaseResult:
    """A phase's student, what it was trained on in this phase, the students on the way and the phase's part of the report."""

    student: ModelRef
    record: DistillRecord | IterateRecord | EvolveRecord
    examples: Sequence[Example] = ()
    checkpoints: Sequence[tuple[str, ModelRef]] = ()
    writes_rationale: frozenset[str | None] = frozenset()


@dataclass(frozen=True)
class JobContext:
    """One distillation job as its phases see it.

    splits: the questions of each split in seeded order, cut to the job's limits. measured: those that students are measured on,
    which is all with a reference, or all where the judge measures; of dev those that decide. choice: the part of dev that rounds and
    turns are chosen on; empty where dev is not parted. places: those of the deciding questions among all measured ones of dev. through_the_base: the judge compares students with the base only, in jobs that
    began so. shards: the disjoint parts of train, one a phase.
    general_questions: those of the forgetting check.
    reference_scripts: the scripts that answers are written in. shows_calls: the student's chat template shows calls of tools. figures: what the workers counted, by step key. refused_rows: those that a provider took never, so far. files: the datasets that the job reads. expect(kind,
    rows): rows come on top of the plan, or fall away where negative. prices: of a strong model's tokens, by provider. material: what
    teacher and judge are shown with every question, and no student.
    """

    spec: Distillation
    hyperparameters: Hyperparameters
    seed: int
    base: ModelRef
    splits: Mapping[Split, Sequence[Question]]
    shards: Mapping[Phase, Sequence[Question]]
    measured: Mapping[Split, Sequence[Question]]
    general_questions: Sequence[Question]
    judge_measures: bool
    reference_scripts: frozenset[str]
    step: Step
    gather: Gather
    emit: Emit
    expect: Callable[[StepKind, int], None]
    figures: Mapping[StepKey, Mapping[str, Any]]
    refused_rows: Callable[[], Sequence[RefusedRow]]
    files: Sequence[UsedFile]
    prices: Mapping[str, Price]
    usage_by_phase: Callable[[], Mapping[str, Usage]]
    grader_files: Mapping[str, str] = field(default_factory=dict)
    material: Material = NO_MATERIAL
    shows_calls: bool = True
    choice: Sequence[Question] = ()
    places: Sequence[int] = ()
    through_the_base: bool = False

    @property
    def verifying(self) -> dict[str, Any]:
        """What JudgeParams needs where the job's own graders are run; empty where it has named ones only."""
        graders = {name_of(grader): grader for grader in self.spec.verifying}
        return {"verify": [*graders.values()], "files": dict(self.grader_files)} if graders else {}

    def graders_of(self, asked: Sequence[Grader | VerifyingGrader]) -> list[VerifyingGrader]:
        """The job's graders beside the named ones, of those that ask elsewhere only the ones that are asked for."""
        wanted = {name_of(grader) for grader in asked}
        verify: list[VerifyingGrader] = self.verifying.get("verify", [])
        return [grader for grader in verify if not asks_elsewhere(grader) or name_of(grader) in wanted]

    @property
    def metric(self) -> str:
        """What decides: the job's primary metric, or the judge's preference."""
        return JUDGE if self.judge_measures else name_of(self.spec.primary_metric)

    @property
    def teacher(self) -> TeachParams:
        """How the teacher is asked, in every phase that asks it."""
        teacher = self.spec.teacher
        return TeachParams(
            teacher=teacher.provider,
            domain=self.spec.domain,
            sampling=Sampling(max_tokens=teacher.max_tokens, temperature=teacher.temperature, seed=self.seed),
            ground=teacher.ground,
            batch=teacher.batch,
            rationale=self.spec.reasons,
            material=list(self.material.digests),
            samples=teacher.samples,
        )

    @property
    def judge(self) -> JudgeParams:
        judge = self.spec.judge
        return JudgeParams(
            judge=judge.provider,
            domain=self.spec.domain,
            grader=None if judge.grader is None else name_of(judge.grader),
            pass_mark=judge.pass_mark,
            **self.verifying,
            batch=judge.batch,
            analysis=judge.analysis,
            material=list(self.material.digests),
            sampling=Sampling(max_tokens=judge.max_tokens, seed=self.seed),
        )

    @property
    def agreement(self) -> AgreeParams:
        """By whose equality answers agree where no reference says what is right."""
        grader = self.spec.agreement_grader
        return AgreeParams(grader=grader, files={} if isinstance(grader, Grader) else dict(self.grader_files))

    def prompt(self, question: Question, **shown: Any) -> StudentPrompt:
        """What a student is asked. shown: shots, or the previous attempt and its critique."""
        return StudentPrompt(**asked(question, self.shows_calls), **shown)

    def example(self, question: Question, completion: str) -> Example:
        return Example(**asked(question, self.shows_calls), completion=completion)

    async def train(
        self,
        key: StepKey,
        kind: StepKind,
        rows: Sequence[Wire],
        model: ModelRef,
        epochs: float,
        learning_rate: float,
        **loss: float,
    ) -> tuple[ModelRef, TrainingFigures]:
        """Train a model on rows; returns the new student and the training's figures.

        OpenAI's hyperparameters override the phase's epochs and scale its learning rate. loss: beta and sft_weight of DPO.
        """
        hyper, adapter = self.hyperparameters, self.spec.adapter
        scale = 1.0 if hyper.learning_rate_multiplier == "auto" else hyper.learning_rate_multiplier
        params = TrainParams(
            model=model,
            method=adapter.method,
            # what full training does not read must not change the step's hash
            adapter=AdapterConfig.model_validate(
                adapter.model_dump(include=set(ALL_WEIGHTS))
                if adapter.method is Method.FULL
                else adapter.model_dump(exclude={"method"})
            ),
            epochs=epochs if hyper.n_epochs == "auto" else hyper.n_epochs,
            batch_size=8 if hyper.batch_size == "auto" else hyper.batch_size,
            learning_rate=learning_rate * scale,
            seed=self.seed,
            **loss,
        )
        result = await self.step(key, kind, params, rows)
        method = Method.FULL if result.weights else Method.LORA
        return model.trained(method, result.trained), TrainingFigures(**result.metrics)
