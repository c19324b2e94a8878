"""`JobContext`: everything that a phase may use of its job: settings, data and collaborators.

Each collaborator holds only what it needs. Only pipeline.py passes the context on, to the pilot and the phases. The context is frozen
and is made once, by run.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from services.orchestrator.method.baselines import Baselines
from services.orchestrator.method.costs import Costs
from services.orchestrator.method.decide import Decisions
from services.orchestrator.method.durable import Emit, Expect, Gather, Step
from services.orchestrator.method.evaluate import Measuring
from services.orchestrator.method.final_comparison import FinalComparison
from services.orchestrator.method.forgetting import Forgetting
from services.orchestrator.method.grading import Grading
from services.orchestrator.method.head_to_head import HeadToHead
from services.orchestrator.method.job_data import JobData
from services.orchestrator.method.judge_trust import JudgeTrust
from services.orchestrator.method.judging import Judge, judge_params
from services.orchestrator.method.report import Reporter
from services.orchestrator.method.sampling import Sampler
from services.orchestrator.method.selection import stratified
from services.orchestrator.method.students import Students
from services.orchestrator.method.teacher import Teacher, teach_params
from shared.artifacts.material import NO_MATERIAL, Material
from shared.contracts.data import Question, Split
from shared.contracts.distillation import JUDGE, Distillation, Hyperparameters, Phase
from shared.contracts.estimate import Price
from shared.contracts.grader_kinds import BINARY_GRADERS, name_of
from shared.contracts.jobs import Usage
from shared.contracts.refusals import RefusedRow
from shared.contracts.report import UsedFile
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef
from shared.plan.allocation import rounds_of


@dataclass(frozen=True)
class JobContext:
    """One distillation job as its phases see it.

    splits: the questions of each split in seeded order, cut to the job's limits. measured: those that students are measured on,
    which is all with a reference, or all where the judge measures; of dev those that decide. choice: the part of dev that rounds and
    turns are chosen on; empty where dev is not parted. places: those of the deciding questions among all measured ones of dev.
    shards: the disjoint parts of train, one a phase. general_questions: those of the forgetting check.
    judge_measures: the judge measures students, for want of references. through_the_base: it compares them with the base only, in
    jobs that began so. reference_scripts: the scripts that answers are written in. shows_calls: the student's chat template shows
    calls of tools. figures: what the workers counted, by step key. refused_rows: those that a provider always refused, so far. files: the
    datasets that the job reads. prices: of a strong model's tokens, by provider. grader_files: what the job's own graders read. material:
    what teacher and judge are shown with every question, and no student.
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
    expect: Expect
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
    def metric(self) -> str:
        """What decides: the job's primary metric, or the judge's preference."""
        return JUDGE if self.judge_measures else name_of(self.spec.primary_metric)

    @cached_property
    def pilot_questions(self) -> Sequence[Question]:
        """Of phase 1's questions those that the pilot asks, from each category by turns."""
        return stratified(self.shards[Phase.DISTILL], self.spec.pilot.questions)

    @property
    def rounds(self) -> list[tuple[Sequence[Question], Sequence[Question]]]:
        """Phase 2's rounds: the fresh questions of each, and those of phase 1 that it samples again."""
        settings = self.spec.iterate
        seen = self.shards.get(Phase.DISTILL, ()) if settings.reuse_questions else ()
        fresh = rounds_of(self.shards[Phase.ITERATE], settings.rounds, settings.round_questions)
        return list(zip(fresh, rounds_of(seen, settings.rounds), strict=True))

    def counted(self, phase: str, action: str, name: str) -> int:
        """Of what the workers counted in a phase's steps so far, the sum of one figure. action: the last word of the steps' role."""
        steps = [counts for key, counts in self.figures.items() if (key.phase, key.action) == (phase, action)]
        return sum(counts.get(name, 0) for counts in steps)

    @cached_property
    def students(self) -> Students:
        """Asks and trains students."""
        return Students(self.spec, self.hyperparameters, self.seed, self.shows_calls, self.step)

    @cached_property
    def teacher(self) -> Teacher:
        """Asks the teacher."""
        params = teach_params(self.spec, self.seed, self.material)
        return Teacher(params, self.spec.teacher.keep, self.reference_scripts, self.grading, self.step)

    @cached_property
    def grading(self) -> Grading:
        """Scores answers by the job's graders."""
        params = judge_params(self.spec, self.seed, self.material, self.grader_files)
        return Grading(self.spec, params, self.grader_files, self.step)

    @cached_property
    def judge(self) -> Judge:
        """Reviews answers and compares them."""
        return Judge(self.grading.params, self.grading, self.step)

    @cached_property
    def sampler(self) -> Sampler:
        """Draws and verifies samples of a student."""
        return Sampler(self.students, self.grading, self.judge, self.step, self.gather)

    @cached_property
    def measuring(self) -> Measuring:
        """Measures students on dev and test."""
        asked = (self.measured, self.choice, self.judge_measures, self.base)
        return Measuring(*asked, self.students, self.grading, self.step, self.gather)

    @cached_property
    def head_to_head(self) -> HeadToHead:
        """Compares two measured students."""
        how = (self.judge_measures, self.through_the_base)
        return HeadToHead(*how, self.judge, self.figures, self.expect, self.gather)

    @cached_property
    def baselines(self) -> Baselines:
        """Measures on test what a user would try first."""
        train = [q for phase in self.spec.phases for q in self.shards[phase]]
        return Baselines(self.spec, self.seed, self.base, train, self.students, self.measuring)

    @cached_property
    def costs(self) -> Costs:
        """Estimates what the job will cost."""
        asked = (self.spec, self.shards, self.measured, self.judge_measures, self.material)
        return Costs(*asked, self.prices, self.usage_by_phase, self.figures)

    # Asked before and after the phases, by the pilot and pipeline.py alone.

    @cached_property
    def data(self) -> JobData:
        """Says what the job's rows are worth."""
        return JobData(
            splits=self.splits,
            measured=self.measured,
            choice=self.choice,
            places=self.places,
            chooses=self.spec.chooses,
            judge_measures=self.judge_measures,
            measures_shares=self.metric in BINARY_GRADERS,
            files=self.files,
            emit=self.emit,
        )

    @cached_property
    def judge_trust(self) -> JudgeTrust:
        """Says how far the judge is to be trusted."""
        asked = (self.spec.judge, self.judge.params, self.spec.pilot.judge_pairs)
        return JudgeTrust(*asked, self.step, self.gather, self.emit, self.expect)

    @cached_property
    def decisions(self) -> Decisions:
        """Decides on dev about a phase's student, and about promotion."""
        return Decisions(self.measuring, self.head_to_head, self.emit, self.expect)

    @cached_property
    def forgetting(self) -> Forgetting:
        """Checks what training cost elsewhere."""
        return Forgetting(self.spec, self.general_questions, self.measuring, self.emit)

    @cached_property
    def final_comparison(self) -> FinalComparison:
        """Has the judge compare the final model with the base."""
        return FinalComparison(
            settings=self.spec.evaluation,
            params=self.judge.params,
            batch_size=self.spec.batch_size,
            judge_teaches=self.spec.judge.provider == self.spec.teacher.provider,
            judge_measures=self.judge_measures,
            step=self.step,
        )

    @cached_property
    def reporter(self) -> Reporter:
        """Makes the report."""
        return Reporter(
            spec=self.spec,
            student=self.base.base,
            seed=self.seed,
            data=self.data,
            shards=self.shards,
            material=self.material,
            figures=self.figures,
            usage_by_phase=self.usage_by_phase,
            refused_rows=self.refused_rows,
        )
