"""The file that OpenAI's clients look for when a job has succeeded: what its trainings logged at each optimiser step, as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from services.orchestrator.method.run import DistillationRun
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import learns
from shared.contracts.steps import StepResult
from shared.datasets.files import RESULTS, add_bytes
from shared.jobs.states import StepState

NAME = "step_metrics.csv"
# The first five are OpenAI's. No loss is computed on rows that are not trained on: decisions are made by what students write.
COLUMNS = (
    "step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy", "training", "step_of_training",
)  # fmt: skip


def keep(run: DistillationRun) -> list[str]:
    """The ids for the job's `result_files`. Its own id follows from the job's, so a replay makes no second file. Raises
    StorageFull, DiskLow."""
    content = as_csv(_trainings(run))
    if content is None:
        return []
    file_id = f"file-{run.job.id.partition('-')[2]}"
    about = {"id": file_id, "filename": NAME, "purpose": RESULTS, "status": "processed", "errors": []}
    add_bytes(run.stores.catalog, run.artifacts, run.uploads, run.job.project_id, content, **about)
    return [file_id]


def _trainings(run: DistillationRun) -> Iterator[tuple[str, StepResult]]:
    """Those on the way to the job's model, in time."""
    done = [
        step
        for step in run.stores.steps.of_job(run.job.id)
        if learns(step.kind) and step.state == StepState.SUCCEEDED and not StepKey.parse(step.key).is_baseline
    ]
    for step in sorted(done, key=lambda step: (step.finished_at, step.id)):
        yield step.key, StepResult.model_validate(run.artifacts.get_json(step.result_ref))


def as_csv(trainings: Iterable[tuple[str, StepResult]]) -> bytes | None:
    """Steps are counted through all of them. Of a training that logged nothing (it was taken over from before there was a curve)
    one line tells its last step and its final loss. None where there is no line."""
    lines = [line for start, key, result in _counted(trainings) for line in _lines(start, key, result)]
    if not lines:
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(lines)
    return text.getvalue().encode()


def _counted(trainings: Iterable[tuple[str, StepResult]]) -> Iterator[tuple[int, str, StepResult]]:
    start = 0
    for key, result in trainings:
        yield start, key, result
        start += result.curve[-1].step if result.curve else int(result.metrics.get("steps", 0))


def _lines(start: int, key: str, result: StepResult) -> Iterator[tuple[Any, ...]]:
    for point in result.curve:
        yield start + point.step, point.loss, point.accuracy, None, None, key, point.step
    figures = result.metrics
    if not result.curve and "loss" in figures:
        last = int(figures.get("steps", 0))
        yield start + last, figures["loss"], None, None, None, key, last
