"""Experiments: jobs that share an id in their metadata. Steps that they have in common run once, by their hashes."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import uuid_utils

from services.api.context import ProjectContext
from services.api.features.jobs import service as jobs
from services.api.features.jobs.live_checks import live_findings
from services.api.features.jobs.posted import Posted
from services.api.paging import Paging, listed
from shared.contracts.distillation import JUDGE
from shared.contracts.errors import Conflict, NotFound, UserError
from shared.contracts.estimate import Price
from shared.contracts.experiments import (
    ALONE,
    EXPERIMENT,
    VARIANT,
    ComparedVariant,
    ExperimentObject,
    ExperimentReport,
    ExperimentRequest,
    Variant,
    VariantObject,
    merged,
)
from shared.contracts.grader_kinds import BINARY_GRADERS
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import Problem, Refused, refuse
from shared.contracts.report import DevResult, Report, read_report
from shared.contracts.report_part import NOTHING
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Queue
from shared.contracts.views import Listed
from shared.jobs.records import JobRecord

MOST_VARIANTS = 100


def create(context: ProjectContext, request: ExperimentRequest) -> ExperimentObject:
    """Queue all variants, or none. Raises UserError that names the invalid variant."""
    experiment_id = f"exp-{uuid_utils.uuid7().hex}"
    prices = jobs.known_prices(context)
    variants = _variants(context, request)
    requests, problems = _checked(context, request, variants, experiment_id, prices)
    refuse(problems)
    made = context.stores.jobs.create_all(context.project, requests, prices, context.key_id)
    for problem in problems:
        context.stores.jobs.add_event(made[0], problem.text, level="warn")
    return get(context, experiment_id)


def _checked(
    context: ProjectContext,
    request: ExperimentRequest,
    variants: Sequence[Variant],
    experiment_id: str,
    prices: Mapping[str, Price] | None,
) -> tuple[list[JobRequest], list[Problem]]:
    """The variants' jobs, and all that is wrong with them; what several have in common is told once."""
    posted: dict[str, Posted] = {}
    wrong: dict[str, tuple[Problem, list[str]]] = {}

    def tell(name: str, problems: Iterable[Problem]) -> None:
        for problem in problems:
            wrong.setdefault(problem.text, (problem, []))[1].append(repr(name))

    for variant in variants:
        try:
            job = posted[variant.name] = Posted(context, _job_of(request, variant, experiment_id), prices)
            tell(variant.name, jobs.still_findings(job).problems)
        except Refused as error:
            tell(variant.name, error.problems)
    for name, findings in zip(posted, live_findings(list(posted.values())), strict=True):
        tell(name, findings.problems)
    return [job.request for job in posted.values()], [
        problem.model_copy(update={"message": f"variant{'s' * bool(names[1:])} {', '.join(names)}: {problem.message}"})
        for problem, names in wrong.values()
    ]


def teachers(job: Mapping[str, Any], providers: Mapping[str, Any]) -> list[Variant]:
    """One variant per configured strong model, first the one that the job names, which the others are compared with.
    The judge stays the job's own, so that all are measured alike. Raises UserError if there is only one."""
    distillation = job.get("distillation")
    teacher = distillation.get("teacher") if isinstance(distillation, dict) else None
    own = teacher.get("provider", "default") if isinstance(teacher, dict) else "default"
    names = sorted(providers, key=lambda name: name != own)  # a stable sort: the others keep the gateway's order
    if len(names) < 2:
        raise UserError(
            f"preset teachers compares the configured strong models, and there is {' '.join(names) or 'none'} alone; "
            "METEOR_PROVIDERS_FILE names more",
            param="preset",
            code="nothing_to_compare",
        )
    first, *others = ({"teacher": {"provider": name}} for name in names)
    changes = [first, *(ALONE | other for other in others)]
    return [Variant(name=name, changes={"distillation": change}) for name, change in zip(names, changes, strict=True)]


def _variants(context: ProjectContext, request: ExperimentRequest) -> list[Variant]:
    """The variants in the request, or those that its preset makes of the deployment's teachers or students. Raises UserError."""
    if request.preset == "teachers":
        return teachers(request.job, context.providers.prices())
    students = [base.name for base in context.students]
    if request.preset == "students" and len(students) == 1:
        raise UserError(
            f"there is one student only, {students[0]!r}; METEOR_STUDENTS names more",
            param="preset",
            code="one_student",
        )
    return request.all_variants(students)


def _job_of(request: ExperimentRequest, variant: Variant, experiment_id: str) -> JobRequest:
    body = merged(request.job, variant.changes)
    body["suffix"] = f"{body.get('suffix', 'expert')}-{variant.name}"
    body["metadata"] = {**(body.get("metadata") or {}), EXPERIMENT: experiment_id, VARIANT: variant.name}
    return jobs.job_request(body)


def page(context: ProjectContext, paging: Paging) -> Listed[ExperimentObject]:
    """Newest first. Raises UserError for an `after` that does not exist."""
    ids, more = context.stores.overview.experiments(context.project, *paging)
    return listed([get(context, experiment_id) for experiment_id in ids], more)


def get(context: ProjectContext, experiment_id: str) -> ExperimentObject:
    """The variants in their order, and the comparison of those that have a report. Raises NotFound."""
    rows, _ = context.stores.jobs.page(context.project, None, MOST_VARIANTS, metadata={EXPERIMENT: experiment_id})
    if not rows:
        raise NotFound(f"no experiment {experiment_id!r}", param="experiment_id", code="experiment_not_found")
    rows.reverse()  # a page is newest first
    finished = [
        Finished(
            _variant(row), read_report(context.artifacts.get_json(row.report_ref)), _teaching_tokens(context, row.id)
        )
        for row in rows
        if row.report_ref
    ]
    return ExperimentObject(id=experiment_id, variants=[_variant(row) for row in rows], comparison=comparison(finished))


def report(context: ProjectContext, experiment_id: str) -> ExperimentReport:
    """Raises NotFound."""
    experiment = get(context, experiment_id)
    compared = experiment.comparison
    return ExperimentReport(
        id=experiment_id, variants=len(experiment.variants), compared=len(compared), comparison=compared
    )


def cancel(context: ProjectContext, experiment_id: str) -> ExperimentObject:
    """Cancel every variant that has not ended."""
    for variant in get(context, experiment_id).variants:
        with contextlib.suppress(Conflict):  # it has ended meanwhile
            jobs.lifecycle.cancel(context, variant.job_id)
    return get(context, experiment_id)


def _variant(job: JobRecord) -> VariantObject:
    return VariantObject(
        name=job.request["metadata"][VARIANT], job_id=job.id, status=job.status, fine_tuned_model=job.fine_tuned_model
    )


def _teaching_tokens(context: ProjectContext, job_id: str) -> int:
    """Tokens of the strong model behind a variant's teacher responses, verdicts and hints, whichever variant paid: the ledger
    counts a shared call for the first variant alone."""
    return sum(
        step.metrics.get("input_tokens", 0) + step.metrics.get("output_tokens", 0)
        for step in context.stores.steps.of_job(job_id)
        if step.queue in (Queue.STRONG, Queue.JUDGE) and StepKey.parse(step.key).phase != "evaluate"
    )


class Finished(NamedTuple):
    """A variant whose job has a report."""

    variant: VariantObject
    report: Report
    lesson_tokens: int


def comparison(finished: Sequence[Finished]) -> list[ComparedVariant]:
    """Per variant: the final model's primary metric on dev and on test, its gain over the base and, paired question by
    question, over the first variant's final model. Choose by dev; test tells what the chosen one is worth."""
    return [_compared(variant, finished[0].report) for variant in finished]


def _compared(variant: Finished, first: Report) -> ComparedVariant:
    report, final, primary = variant.report, variant.report.final_row, variant.report.primary_metric
    dev, used = report.dev, report.teacher.values()
    return ComparedVariant(
        variant=variant.variant.name,
        job_id=variant.variant.job_id,
        final=final.name,
        metric=primary,
        n=final.n,
        value=list(final.metrics[primary]),
        gain_over_base=list(final.gain_over_base),
        gain_over_first=_gain_over(report, first, first.final_row.scores, final.scores),
        dev=list(dev.value) if dev else None,
        dev_gain_over_first=_gain_over(report, first, *_on_same(first.dev, dev)) if dev and first.dev else None,
        decisions={decision.phase: decision.decision for decision in report.decisions},
        teacher_calls=sum(phase.teacher_calls for phase in used),
        teacher_tokens=sum(phase.input_tokens + phase.output_tokens for phase in used),
        lesson_tokens=variant.lesson_tokens,
    )


def _on_same(first: DevResult, other: DevResult) -> tuple[list[float], list[float]]:
    """Their scores on the questions of dev that decided in both: a variant with several rounds or turns chose on a part of them. All of
    them where the two were not measured on the same dev."""
    if first.n + (first.chosen_on or 0) != other.n + (other.chosen_on or 0):
        return first.scores, other.scores
    before, after = (dict(zip(one.places or range(one.n), one.scores, strict=True)) for one in (first, other))
    return [before[place] for place in before if place in after], [after[place] for place in after if place in before]


def _gain_over(report: Report, first: Report, before: list[float], after: list[float]) -> list[float] | None:
    """The paired gain over the first variant; None if the two measured different things, exactly zero over itself."""
    if report is first:
        return list(NOTHING)
    from shared.evaluation.statistics import gain  # here: scipy takes a second, and only this call needs it

    primary = report.primary_metric
    comparable = len(before) == len(after) and primary == first.primary_metric
    if primary == JUDGE:  # each student was compared with its own base
        comparable = comparable and report.student == first.student
    return list(gain(primary in BINARY_GRADERS, before, after).rounded()) if comparable else None
