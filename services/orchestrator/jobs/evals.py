"""A run of an eval: a model is asked (or its answers are there), graders look at each answer, and the rows become an artifact."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from services.orchestrator.runtime.run import DurableRun
from services.orchestrator.runtime.steps import StepClient, when_disk_has_space
from shared.artifacts.bases import Bases
from shared.artifacts.opening import open_uploads
from shared.contracts.conversation import student_conversation, teacher_conversation, transcript
from shared.contracts.eval_results import (
    Checked,
    CheckInput,
    CheckParams,
    CompleteParams,
    CriterionCounts,
    EvalError,
    ItemSample,
    ModelUsage,
    ResultCounts,
    RunResult,
    SampleMessage,
    SampleUsage,
    StoredItem,
)
from shared.contracts.evals import CompletionsRun, EvalRun, FileById
from shared.contracts.grader_kinds import file_ids
from shared.contracts.json_types import Json
from shared.contracts.rows import TOO_LONG, StudentCompletion, StudentPrompt
from shared.contracts.steps import ModelRef, StepKind, StudentParams
from shared.datasets.eval_items import EvalItem, Unasked, items_of, messages_of
from shared.jobs.catalog import ref_of
from shared.jobs.records import JobRecord
from shared.ledger.store import Ledger

SAMPLE, GRADE = "sample", "grade"
BATCH = 16  # rows of one step
NO_ANSWER = {
    TOO_LONG: "what is asked does not fit into the model's context",
    "too_long": "what is asked does not fit into the model's context",
    "content_filter": "the provider refuses to answer",
}


class EvaluationRun(DurableRun):
    """student: the model that is asked; None for a provider, and where answers are given. shows_calls: of its chat template."""

    def __init__(
        self,
        job: JobRecord,
        items: Sequence[EvalItem],
        student: ModelRef | None,
        shows_calls: bool,
        grader_files: dict[str, str],
        steps: StepClient,
        ledger: Ledger,
    ):
        self.request = EvalRun.model_validate(job.request)
        self.items, self.student, self.shows_calls, self.grader_files = items, student, shows_calls, grader_files
        plan = {(GRADE, StepKind.CHECK): len(items)}
        if self.request.target != "none":
            plan[SAMPLE, self.asks] = len(items)
        super().__init__(job, steps, ledger, plan, BATCH, most_refused=1.0)

    @property
    def asks(self) -> StepKind:
        return StepKind.COMPLETE if self.request.target == "provider" else StepKind.ANSWER

    @property
    def params(self) -> StudentParams | CompleteParams:
        if self.student is None:
            return CompleteParams(provider=self.request.model, sampling=self.request.sampling)
        return StudentParams(model=self.student, domain="", sampling=self.request.sampling)


async def open_eval(steps: StepClient, ledger: Ledger, bases: Bases, row: JobRecord) -> EvaluationRun:
    """Raises NotFound for a version that is gone, FatalError for a base that is no longer there, ArtifactMissing."""
    request, stores, artifacts = EvalRun.model_validate(row.request), steps.stores, steps.artifacts
    source = request.data_source.source
    uploads = open_uploads(steps.settings)

    def read() -> tuple[list[EvalItem], dict[str, str]]:
        file = stores.catalog.file_of_job(source.id) if isinstance(source, FileById) else None
        items = items_of(source, file, uploads, artifacts, stores.catalog)
        databases = file_ids(one.verifying for one in request.criteria if one.verifying)
        shas = {name: stores.catalog.file(row.project_id, name).sha256 for name in databases}
        return items, {name: artifacts.put(uploads.path(sha).read_bytes()) for name, sha in shas.items()}

    items, grader_files = await asyncio.to_thread(read)
    student, shows_calls = None, True
    if request.target in ("base", "version"):
        student = await asyncio.to_thread(_student, stores.catalog, bases, row.project_id, request)
        shows_calls = await asyncio.to_thread(bases.shows_calls, student.base)
    return EvaluationRun(row, items, student, shows_calls, grader_files, steps, ledger)


def _student(catalog: Any, bases: Bases, project: str, request: EvalRun) -> ModelRef:
    if request.model_id is None:
        return bases.ref(request.model, conversations=True)
    version = ref_of(catalog.resolve(project, request.model_id))
    return version.model_copy(update={"prompts": bases.prompts(version.base)})


async def evaluate(run: EvaluationRun) -> dict[str, Any]:
    """What is written into the job's row: the figures, and the hash of the rows."""
    samples = await _samples(run)
    await run.enter(GRADE)
    params = CheckParams(criteria=run.request.criteria, files=run.grader_files)
    answered = [
        CheckInput(id=str(place), item=one.item, output_text=sample.output[0].content if sample.output else "")
        for place, (one, sample) in enumerate(zip(run.items, samples, strict=True))
        if sample.error is None
    ]

    async def grade(index: int, batch: Sequence[CheckInput]) -> list[Checked]:
        graded = await run.step(f"{GRADE}/{index}", StepKind.CHECK, params, batch)
        return graded.read(Checked)

    graded = {one.id: one for batch in await run.gather(grade, answered) for one in batch}
    stored = [
        stored_item(one.item, sample, graded.get(str(place)))
        for place, (one, sample) in enumerate(zip(run.items, samples, strict=True))
    ]
    figures = result_of(stored, [one.name for one in run.request.criteria], run.request.model)
    body = {"items": [one.model_dump(mode="json") for one in stored]}
    reference = await when_disk_has_space(lambda: run.artifacts.put_json(body), lambda _: None)
    counts = figures.result_counts
    await run.emit(
        f"{counts.passed} of {counts.total} pass, {counts.failed} fail, {counts.errored} could not be graded or answered",
        type="metrics",
        **figures.model_dump(mode="json"),
    )
    return {"report_ref": reference, "result": figures.model_dump(mode="json"), "status_reason": None}


async def _samples(run: EvaluationRun) -> list[ItemSample]:
    """Of every item, in their order."""
    source = run.request.data_source
    if not isinstance(source, CompletionsRun):
        return [_given(one) for one in run.items]
    asked: list[list[Json] | Unasked] = []
    for one in run.items:
        try:
            asked.append(messages_of(source.input_messages, one.item))
        except Unasked as reason:
            asked.append(reason)
    prompts = [
        _prompt(run, str(place), messages) for place, messages in enumerate(asked) if not isinstance(messages, Unasked)
    ]
    await run.enter(SAMPLE)

    async def ask(index: int, batch: Sequence[StudentPrompt]) -> list[StudentCompletion]:
        answered = await run.step(f"{SAMPLE}/{index}", run.asks, run.params, batch)
        return answered.read(StudentCompletion)

    answers = {one.id: one for batch in await run.gather(ask, prompts) for one in batch}
    refused = {row.id: row.words for row in run.refused_rows()}
    return [
        _sampled(run, messages, answers.get(str(place)), refused.get(str(place)))
        for place, messages in enumerate(asked)
    ]


def _prompt(run: EvaluationRun, row_id: str, messages: list[Json]) -> StudentPrompt:
    conversation = (
        teacher_conversation(messages, ())
        if run.student is None
        else student_conversation(messages, (), run.shows_calls)
    )
    return StudentPrompt(id=row_id, question=transcript(messages), conversation=conversation)


def _given(one: EvalItem) -> ItemSample:
    output = [] if one.output_text is None else [SampleMessage(role="assistant", content=one.output_text)]
    return ItemSample(output=output, finish_reason="stop" if output else "")


def _sampled(
    run: EvaluationRun, messages: list[Json] | Unasked, answer: StudentCompletion | None, refused: str | None
) -> ItemSample:
    sampling = run.request.sampling
    sample = ItemSample(
        model=run.request.model,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_completion_tokens=sampling.max_tokens,
        seed=sampling.seed,
    )
    if isinstance(messages, Unasked):
        return sample.model_copy(update={"error": EvalError(code="invalid_item", message=str(messages))})
    given: Json = {"input": [SampleMessage(**one) for one in messages]}
    if answer is None:
        given["error"] = EvalError(code="no_answer", message="the model was not asked")
        return sample.model_copy(update=given)
    given["finish_reason"] = answer.finish_reason
    if answer.usage is not None:
        used, paid_before = answer.usage, answer.usage.cached
        total = used.prompt_tokens + used.completion_tokens
        given["usage"] = SampleUsage(
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            total_tokens=total,
            cached_tokens=total if paid_before else 0,
        )
    if answer.finish_reason in NO_ANSWER and not answer.answer:
        given["error"] = EvalError(code=answer.finish_reason, message=refused or NO_ANSWER[answer.finish_reason])
    else:
        given["output"] = [SampleMessage(role="assistant", content=answer.answer)]
    return sample.model_copy(update=given)


def stored_item(item: Json, sample: ItemSample, checked: Checked | None) -> StoredItem:
    """A row passes where all criteria pass; one without an answer, or that a grader could not grade, is an error."""
    results = checked.results if checked else []
    if checked is None or any(one.error is not None for one in results):
        return StoredItem(item=item, sample=sample, results=results, status="error")
    return StoredItem(
        item=item, sample=sample, results=results, status="pass" if all(one.passed for one in results) else "fail"
    )


def result_of(items: Sequence[StoredItem], criteria: Sequence[str], model: str) -> RunResult:
    """criteria: their names, in the eval's order. A row without a result counts as failed, with a score of 0."""
    statuses = Counter(one.status for one in items)
    by_name = {name: [_of(one, name) for one in items] for name in criteria}
    asked = [one.sample for one in items if model and one.sample.finish_reason]
    used = SampleUsage()
    for sample in asked:
        used = used.plus(sample.usage)
    return RunResult(
        result_counts=ResultCounts(
            total=len(items), passed=statuses["pass"], failed=statuses["fail"], errored=statuses["error"]
        ),
        per_testing_criteria_results=[
            CriterionCounts(
                testing_criteria=name,
                passed=sum(passed for passed, _ in results),
                failed=sum(not passed for passed, _ in results),
            )
            for name, results in by_name.items()
        ],
        per_model_usage=[ModelUsage(model_name=model, invocation_count=len(asked), **used.model_dump())]
        if model
        else [],
        mean_scores={
            name: round(fmean(score for _, score in results), 6) for name, results in by_name.items() if results
        },
    )


def _of(item: StoredItem, name: str) -> tuple[bool, float]:
    result = next((one for one in item.results if one.name == name), None)
    return (result.passed, result.score) if result else (False, 0.0)
