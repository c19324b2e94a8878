"""`Run`: what the phases see of a job. They call `step` and `gather` (durable.py); keys make every call a restart point."""

import asyncio
from collections import defaultdict
from typing import Any

from services.orchestrator.clients import StepClient
from services.orchestrator.durable import DurableRun, PauseHere
from services.orchestrator.method import selection
from services.orchestrator.method.selection import scripts
from services.orchestrator.progress import planned_work
from shared.contracts.data import Question, Split, judge_must_decide
from shared.contracts.distillation import JUDGE, Phase
from shared.contracts.estimate import Estimate
from shared.contracts.jobs import JobRequest
from shared.contracts.rows import Example
from shared.contracts.steps import (
    AdapterConfig,
    JudgeParams,
    Method,
    ModelRef,
    Sampling,
    StepKind,
    StudentParams,
    TeachParams,
    TrainParams,
)
from shared.jobs.catalog import ref_of
from shared.jobs.records import JobRecord, LabelRecord
from shared.ledger.store import Ledger
from shared.plan.estimate import summary


class Run(DurableRun):
    """A distillation while an orchestrator holds it. `student` is the model that the next phase starts from."""

    def __init__(self, job: JobRecord, base: ModelRef, rows: list[Question], steps: StepClient, ledger: Ledger):
        self.request = JobRequest.model_validate(job.request)
        self.spec = self.request.distillation
        self.seed = self.request.seed
        self.base = base
        self.student = base
        self.guidance = self.request.distillation.guidance  # the pilot settles it where the job leaves it open
        self.judge_decides = True  # until labels show that the judge is no better than chance
        self.judge: dict[str, Any] = {}  # what the report tells of the judge
        self.gathered: list[Example] = []  # what the student was trained on so far, in order
        self.parts: defaultdict[Phase, list[tuple[str, ModelRef]]] = defaultdict(
            list
        )  # the students after each round of phase 2 and each turn of phase 3, where there are several
        self.reasoning: set[str | None] = set()  # what was trained to write a rationale first, by content hash
        self.finished: dict[str, ModelRef] = {}  # the students of the phases that are over and were not rejected
        self.records: dict[str, Any] = {}  # per phase: what the report tells of it
        self.estimate = Estimate.model_validate(job.estimate) if job.estimate else None
        self._rows = rows
        self.judge_measures = judge_must_decide(rows)  # there are too few references for graders
        self.answers_of_base: dict[Split, list[str]] = {}  # what the judge holds other students' answers against
        self._shards = selection.shards(self.split(Split.TRAIN), self.spec, self.seed)
        self.scripts = scripts(row.reference for row in rows if row.split is not Split.TEST)  # answers are written in
        sizes = {split.value: len(self.split(split)) for split in Split}
        references = any(question.reference for question in self.split(Split.TRAIN))
        work = planned_work(self.spec, sizes, references, self.judge_measures)
        super().__init__(job, steps, ledger, work, self.spec.batch_size)

    # data

    def split(self, split: Split) -> list[Question]:
        """The questions of a split, in a seeded order, cut to the size that the job names for it; what has no
        reference is left out first."""
        rows = selection.seeded_order([q for q in self._rows if q.split == split], self.seed)
        caps = {Split.DEV: self.spec.evaluation.dev_questions, Split.TEST: self.spec.evaluation.test_questions}
        cap = caps.get(split)
        return rows if cap is None else sorted(rows, key=lambda q: not q.reference)[:cap]

    def measured(self, split: Split) -> list[Question]:
        """Those of a split that students are measured on: all with a reference, or simply all where the judge measures."""
        return [q for q in self.split(split) if q.reference or self.judge_measures]

    @property
    def metric(self) -> str:
        """What decides: the job's primary metric, or how the judge compares a student's answers with the base's."""
        return JUDGE if self.judge_measures else self.spec.primary_metric.value

    def shard(self, phase: Phase) -> list[Question]:
        """The part of the train split that belongs to a phase alone."""
        return self._shards[phase]

    def labels(self) -> list[LabelRecord]:
        """Human labels that were there when the job was posted, so that a replay finds the same ones."""
        return self.stores.labels.sample(self.job.project_id, self.spec.judge.labels, self.job.created_at)

    # how models are asked and trained

    def asking(self, sampling: Sampling, model: ModelRef | None = None) -> StudentParams:
        return StudentParams(model=model or self.student, domain=self.spec.domain, sampling=sampling)

    def teaching(self) -> TeachParams:
        """How the teacher is asked, in every phase that asks it."""
        teacher = self.spec.teacher
        return TeachParams(
            teacher=teacher.provider,
            domain=self.spec.domain,
            sampling=Sampling(max_tokens=teacher.max_tokens, temperature=teacher.temperature, seed=self.seed),
            ground=teacher.ground,
            batch=teacher.batch,
        )

    def judging(self) -> JudgeParams:
        judge = self.spec.judge
        return JudgeParams(
            judge=judge.provider,
            domain=self.spec.domain,
            grader=judge.grader,
            pass_mark=judge.pass_mark,
            batch=judge.batch,
            sampling=Sampling(max_tokens=judge.max_tokens, seed=self.seed),
        )

    def training(
        self, epochs: float, learning_rate: float, model: ModelRef | None = None, **extra: float
    ) -> TrainParams:
        """A job's training settings; OpenAI's hyperparameters override the phase's own."""
        hyper, adapter = self.request.hyperparameters, self.spec.adapter
        scale = 1.0 if hyper.learning_rate_multiplier == "auto" else hyper.learning_rate_multiplier
        return TrainParams(
            model=model or self.student,
            method=adapter.method,
            # what a full training does not read must not tell its step from another
            adapter=AdapterConfig.model_validate(
                adapter.model_dump(include={"max_length"})
                if adapter.method is Method.FULL
                else adapter.model_dump(exclude={"method"})
            ),
            epochs=epochs if hyper.n_epochs == "auto" else hyper.n_epochs,
            batch_size=8 if hyper.batch_size == "auto" else hyper.batch_size,
            learning_rate=learning_rate * scale,
            seed=self.seed,
            **extra,
        )

    async def fine_tune(
        self, key: str, examples: list[Example], params: TrainParams
    ) -> tuple[ModelRef, dict[str, Any]]:
        """Supervised fine-tuning on question -> completion. Returns the new student and the training's figures."""
        result = await self.step(key, StepKind.SFT, params, examples)
        return params.model.trained(params.method, result.trained), result.metrics

    # models

    def served_version(self) -> ModelRef | None:
        """What the job's alias serves now, if it stands on the same base."""
        row = self.stores.catalog.served(self.job.project_id, self.request.suffix)
        if row is None or row.base_hash != self.base.base_hash:
            return None
        return ref_of(row)

    async def publish(self, state: str) -> str:
        """Give the student a version under the job's alias; the alias moves to it only when it is promoted."""
        catalog, alias = self.stores.catalog, self.request.suffix
        row = await asyncio.to_thread(catalog.publish, self.job.project_id, alias, self.student, self.job.id, state)
        if state == "promoted":
            await asyncio.to_thread(catalog.serve, self.job.project_id, row)
        name = f"{alias}@{row.version}"
        await self.say(
            f"{name} is {state}" + (f" and served as {alias}" if state == "promoted" else ""), model=name, state=state
        )
        return name

    # telling people

    async def pause_after(self, stage: str) -> None:
        """Raises PauseHere where the job's pause_after names this stage, unless it has been paused there already."""
        if self.spec.pause_after == stage and self.job.paused_after != stage:
            cost = f"; {summary(self.estimate)}" if self.estimate else ""
            raise PauseHere(stage, f"waits after {stage}, as pause_after asks: resume it to go on{cost}")

    async def note_estimate(self, found: Estimate) -> None:
        self.estimate = found
        await asyncio.to_thread(self.stores.jobs.note, self.job, estimate=found.model_dump())
        await self.say(f"estimated by the pilot's calls, {summary(found)}", type="metrics", estimate=found.model_dump())
