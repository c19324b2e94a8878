"""`DistillationRun`: a distillation while an orchestrator holds it. The pipeline enters, pauses and publishes the job with it;
phases get its `context`."""

import asyncio
import re
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.decide import Incumbent
from services.orchestrator.method.questions import survey
from services.orchestrator.method.selection import general_questions, seeded_order, shards, stratified
from services.orchestrator.runtime.run import DurableRun, PauseHere
from services.orchestrator.runtime.serving import Placed, begin_to_serve, replaced_by
from services.orchestrator.runtime.steps import StepClient
from shared.artifacts.material import NO_MATERIAL, Material
from shared.contracts.data import Split, group_key
from shared.contracts.distillation import Phase
from shared.contracts.estimate import Estimate
from shared.contracts.generation import Generation
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import ModelRef
from shared.datasets.rows import JobRows
from shared.evaluation.parts import dev_parts
from shared.jobs.catalog import ref_of
from shared.jobs.records import JobRecord, LabelRecord
from shared.ledger.store import Ledger
from shared.plan.estimate import summary
from shared.plan.plan import Pool, Sizes, make_plan
from shared.plan.rates import Rates

# Steps by which a job is known that began in an earlier version: it goes on as it began, or its later steps would not be the same.
ON_WHOLE_DEV = "evaluate/dev/base/answers/0"  # of a job that chooses, though its dev could be parted
OVER_BASE = re.compile(
    r"evaluate/dev/[a-z]+(-[0-9]+)?/preferences/[0-9]+"
)  # the judge compared students with the base only


class Published(NamedTuple):
    """model: alias@version. then, served_meanwhile: see Placed."""

    model: str
    then: str
    served_meanwhile: str | None


class DistillationRun(DurableRun):
    """A distillation while an orchestrator holds it: its context, and what pipeline.py does to the job outside the phases.

    continues: the version that the job starts from, None for a base. finished: the students of finished phases that were not rejected; the last one is published where the job fails. estimate:
    what the whole job is expected to cost. shows_calls: the student's chat template shows calls of tools. material: what strong models are shown.
    """

    def __init__(
        self,
        job: JobRecord,
        base: ModelRef,
        rows: JobRows,
        steps: StepClient,
        ledger: Ledger,
        rates: Rates | None = None,
        grader_files: Mapping[str, str] | None = None,
        shows_calls: bool = True,
        material: Material = NO_MATERIAL,
    ):
        request = JobRequest.model_validate(job.request)
        spec, seed = request.distillation, request.seed
        self.alias = request.suffix
        self.continues = request.model if base.tuned else None
        self.finished: dict[str, ModelRef] = {}
        self.estimate = job.estimate
        caps = {Split.DEV: spec.evaluation.dev_questions, Split.TEST: spec.evaluation.test_questions}
        seen = survey(rows, seed)
        train = seen.splits[Split.TRAIN]
        if spec.distill.answers == "references":  # phase 1 can learn no other rows
            train = train.referenced_first()
        splits = {split: [*questions.capped(caps[split])] for split, questions in seen.splits.items() if split in caps}
        judge_measures = rows.judge_must_decide
        parts = {phase: [*part] for phase, part in shards(train, spec).items()}
        measured = {split: [q for q in asked if q.reference or judge_measures] for split, asked in splits.items()}
        earlier = {row.key for row in steps.stores.steps.of_job(job.id)}
        dev = measured[Split.DEV]
        two = dev_parts([group_key(q) for q in dev]) if spec.chooses and ON_WHOLE_DEV not in earlier else None
        places = two.rest if two else [*range(len(dev))]
        choice = [dev[place] for place in two.choice] if two else []
        self.plan = make_plan(
            spec,
            Sizes(
                questions={phase: len(part) for phase, part in parts.items()},
                pools={phase: Pool(len(part), sum(not q.reference for q in part)) for phase, part in parts.items()},
                dev=len(splits[Split.DEV]),
                test=len(splits[Split.TEST]),
                references=train.without_reference < len(train),
                judge_measures=judge_measures,
                choice=len(choice),
            ),
        )
        super().__init__(job, steps, ledger, self.plan.rows(), spec.batch_size, spec.most_refused, rates)
        self.context = JobContext(
            spec=spec,
            hyperparameters=request.hyperparameters,
            seed=seed,
            base=base,
            splits={Split.TRAIN: train, **splits},
            shards=parts,
            measured=measured | {Split.DEV: [dev[place] for place in places]},
            choice=choice,
            places=places,
            through_the_base=judge_measures and any(map(OVER_BASE.fullmatch, earlier)),
            general_questions=stratified(seeded_order(general_questions(), seed), spec.evaluation.forgetting),
            judge_measures=judge_measures,
            reference_scripts=seen.scripts,
            step=self.step,
            gather=self.gather,
            emit=self.emit,
            expect=self.expect,
            figures=self.figures,
            refused_rows=self.refused_rows,
            files=[
                file.model_copy(update={"left": seen.crossing}) if file.field == "validation_file" else file
                for file in rows.files
            ],
            prices=job.prices or {},
            usage_by_phase=partial(ledger.usage_by_phase, job.id),
            grader_files=grader_files or {},
            shows_calls=shows_calls,
            material=material,
        )

    def note_finished(self, phase: Phase, student: ModelRef) -> None:
        """A phase is over and was not rejected: its student is worth publishing where a later phase fails."""
        if student != self.context.base:
            self.finished[phase.value] = student

    def human_preferences(self) -> list[LabelRecord]:
        """Those that were there when the job was posted, so that a replay reads the same ones."""
        return self.stores.labels.sample(self.job.project_id, self.context.spec.judge.labels, self.job.created_at)

    async def incumbent(self) -> Incumbent | None:
        """The version that the student is compared with: what the job's alias served when this was asked first, if it stands on the same
        base."""
        row = await asyncio.to_thread(self.stores.catalog.incumbent, self.job, self.alias)
        if row is None or row.base_hash != self.context.base.base_hash:
            return None
        model = ref_of(row).model_copy(update={"prompts": self.context.base.prompts})
        return Incumbent(f"{row.alias}@{row.version}", model)

    def look_at_dev(self, student: ModelRef) -> int:
        """How often the dataset's dev split has now decided which version the alias serves."""
        return 1 + self.stores.catalog.looks(self.job.project_id, self.alias, self.job.id, student.tuned)

    async def publish(self, student: ModelRef, state: str) -> Published:
        """Give a student a version under the job's alias. One that is promoted is served in place of the one that it was compared with, or
        tried by a canary first where the job says so and the alias serves another one."""
        published = await asyncio.to_thread(self._publish, student, state)
        await self.emit(f"{published.model} is {state}{published.then}", model=published.model, state=state)
        return published

    def _publish(self, student: ModelRef, state: str) -> Published:
        catalog, terms, promoted = self.stores.catalog, self.context.spec.canary, state == "promoted"
        evaluated = Generation(max_tokens=self.context.spec.student_tokens, rationale=self.context.spec.reasons)
        of_job = (self.job.project_id, self.alias, student, self.job.id, state, evaluated, self.continues)
        row = catalog.publish(*of_job, replaced_by(self, self.alias, terms) if promoted else None)
        placed = begin_to_serve(self, row, terms) if promoted else Placed("")
        return Published(f"{self.alias}@{row.version}", *placed)

    async def pause_after(self, stage: str) -> None:
        """Raises PauseHere where the job's pause_after names this stage, unless the job was paused there already."""
        if self.context.spec.pause_after == stage and self.job.paused_after != stage:
            cost = f"; {summary(self.estimate)}" if self.estimate else ""
            raise PauseHere(stage, f"waits after {stage}, as pause_after asks: resume it to go on{cost}")

    async def note_estimate(self, estimate: Estimate) -> None:
        self.estimate = estimate
        await asyncio.to_thread(self.stores.jobs.note, self.job, estimate=estimate.model_dump())
        await self.emit(
            f"estimated by the pilot's calls, {summary(estimate)}", type="metrics", estimate=estimate.model_dump()
        )
