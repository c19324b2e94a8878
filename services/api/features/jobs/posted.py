"""A posted job as its checks see it: the request, its files and rows, the providers, and the plan of what it will ask."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from services.api.context import ProjectContext
from shared.contracts.data import Split
from shared.contracts.distillation import Distillation
from shared.contracts.errors import NotFound
from shared.contracts.estimate import Price
from shared.contracts.grader_kinds import models_of
from shared.contracts.jobs import JobRequest
from shared.contracts.material import is_file
from shared.contracts.problems import Problem
from shared.contracts.steps import StepKind
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.files import JobData, items_in
from shared.datasets.rows import JobRows
from shared.datasets.splits import CODES
from shared.jobs.records import FileRecord
from shared.plan.plan import Plan, PlannedStep, Sizes, make_plan


@dataclass(frozen=True)
class Posted:
    """prices: by provider; None while the gateway is unavailable, and then nothing is known of the providers. forked: it takes over
    what another job has paid for."""

    context: ProjectContext
    request: JobRequest
    prices: Mapping[str, Price] | None
    forked: bool = False

    @property
    def spec(self) -> Distillation:
        return self.request.distillation

    @cached_property
    def _files(self) -> dict[str, FileRecord | Problem]:
        """By the request's field."""
        named = {"training_file": self.request.training_file, "validation_file": self.request.validation_file}
        return {field: _file(self.context, file_id, field) for field, file_id in named.items() if file_id}

    @property
    def missing_files(self) -> list[Problem]:
        return [file for file in self._files.values() if isinstance(file, Problem)]

    @property
    def files(self) -> dict[str, FileRecord]:
        """Those that there are, by the request's field."""
        return {field: file for field, file in self._files.items() if isinstance(file, FileRecord)}

    @cached_property
    def data(self) -> JobData | None:
        """None where a file is missing, is no dataset or has bad lines: then nothing is known of the rows."""
        if self.missing_files or not all(file.rows_ref is not None for file in self.files.values()):
            return None
        return JobData(self.files["training_file"], self.files.get("validation_file"))

    @property
    def rows(self) -> JobRows:
        """Only where `data` is known. They lie on the disk: ask for columns and places, not for all."""
        assert self.data is not None
        return self.context.job_rows(self.data, items_in(self.spec))

    def path_of(self, file_id: str) -> Path:
        """Where the bytes of an uploaded file lie. Raises NotFound."""
        return self.context.uploads.path(self.context.file(file_id).sha256)

    @cached_property
    def material_bytes(self) -> int:
        """Of what the job shows to teacher and judge; of files that cannot be read nothing."""
        given = self.spec.teacher.contexts
        size = sum(len(text.encode()) for text in given if not is_file(text))
        for file_id in filter(is_file, given):
            with suppress(NotFound, OSError):
                size += self.path_of(file_id.strip()).stat().st_size
        return size

    @cached_property
    def lacks_references(self) -> bool:
        """Whether graders have too few references to measure by; False where the rows are unknown."""
        return self.data is not None and self.rows.judge_must_decide

    @cached_property
    def plan(self) -> Plan | None:
        """None where the rows are unknown."""
        if self.data is None:
            return None
        train = self.rows.splits == CODES[Split.TRAIN]
        bare = int((train & ~self.rows.has(HAS_REFERENCE)).sum())
        sizes = Sizes.of_splits(self.spec, self.data.splits, bare, judge_measures=self.lacks_references)
        return make_plan(self.spec, sizes)

    @property
    def asks_teacher(self) -> bool:
        return any(step.kind is StepKind.TEACH for step in self._asking)

    @property
    def asks_judge(self) -> bool:
        return any(step.kind is not StepKind.TEACH and step.grader is None for step in self._asking)

    @property
    def _asking(self) -> list[PlannedStep]:
        """The planned steps that may ask a strong model."""
        stages = self.plan.stages if self.plan else ()
        return [step for stage in stages for step in stage.steps if step.asks_strong_model and step.most.total]

    @property
    def asks(self) -> bool:
        """Whether the job asks a strong model anything, as far as that is known."""
        graders = any(models_of(grader) for grader in self.spec.verifying)
        return (
            not self.spec.asks_nobody or self.spec.evaluation.judged_questions > 0 or self.lacks_references or graders
        )


def _file(context: ProjectContext, file_id: str, field: str) -> FileRecord | Problem:
    try:
        return context.file(file_id)
    except NotFound as error:
        return Problem(
            code="file_not_found",
            param=field,
            message=error.message,
            remedy="upload the file first (POST /v1/files, or `--rows`), and name the id that the answer has",
        )
