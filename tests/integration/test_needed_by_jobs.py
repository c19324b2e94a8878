"""What a job names cannot be deleted while the job has not ended, whatever its kind; the refusal says which job it is."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from shared.contracts.distillation import Budget, Distillation
from shared.contracts.errors import Conflict
from shared.contracts.evals import Criterion, CustomSource, EvalRun, RunRequest
from shared.contracts.exports import ExportFormat, ExportRequest
from shared.contracts.imports import ImportJob
from shared.contracts.jobs import AnyRequest, JobRequest, JobStatus
from shared.contracts.steps import Method, ModelRef
from shared.jobs.records import ModelRecord
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT
from tests.integration.test_interleaved import file

CONTENT = {"type": "file_content", "content": [{"item": {}}]}
MESSAGES = {"type": "template", "template": [{"role": "user", "content": "?"}]}


@dataclass
class Project:
    """A version, and ids of a training file and of another file."""

    stores: Stores
    version: ModelRecord
    training: str
    other: str

    def job(self, model: str = "tiny", validation: str | None = None, **distillation: object) -> JobRequest:
        spec = Distillation.model_validate({"domain": "shell"} | distillation)
        return JobRequest(
            model=model, training_file=self.training, validation_file=validation, distillation=spec, suffix="b"
        )

    def run(self, source: dict[str, object], database: str | None = None) -> EvalRun:
        grader = {"type": "sql_result", "database": database} if database else "string_check"
        criterion = Criterion.model_validate({"name": "c", "pass_threshold": 1, "grader": grader})
        made = self.stores.evals.add(
            DEFAULT_PROJECT, "e", CustomSource(type="custom", item_schema={"type": "object"}), [criterion], None
        )
        data_source = RunRequest.model_validate({"data_source": source}).data_source
        asked = source["type"] == "completions"
        return EvalRun(
            eval_id=made.id, name="r", data_source=data_source, criteria=[criterion], metadata=None, budget=Budget(),
            target="version" if asked else "none", model_id=self.version.id if asked else None,
        )  # fmt: skip

    def imports(self) -> ImportJob:
        return ImportJob.model_validate(
            {"source": {"type": "documents", "domain": "shell"}, "file": self.other, "sha256": "0" * 64, "filename": "f", "budget": {},
             "metadata": {}, "dev_share": 0.1, "test_share": 0.1}
        )  # fmt: skip


ASKS: dict[str, object] = {"type": "completions", "model": "a@1", "source": CONTENT, "input_messages": MESSAGES}
GRADES: dict[str, object] = {"type": "jsonl", "source": CONTENT}
VERSIONS: dict[str, Callable[[Project], AnyRequest]] = {
    "job": lambda project: project.job(model="a@1"),
    "export": lambda project: ExportRequest(model="a@1", model_id=project.version.id, formats=[ExportFormat.ADAPTER]),
    "run": lambda project: project.run(ASKS),
}
FILES: dict[str, Callable[[Project], AnyRequest]] = {
    "validation": lambda project: project.job(validation=project.other),
    "database": lambda project: project.job(primary_metric={"type": "sql_result", "database": project.other}),
    "material": lambda project: project.job(teacher={"provider": "p", "context": ["be short", project.other]}),
    "import": lambda project: project.imports(),
    "rows of a run": lambda project: project.run({"type": "jsonl", "source": {"type": "file_id", "id": project.other}}),
    "database of a run": lambda project: project.run(GRADES, database=project.other),
}


@pytest.fixture
def project(stores: Stores, new_job) -> Project:
    made = new_job(stores)
    ref = ModelRef(base="tiny", base_hash="b").trained(Method.LORA, "1" * 64)
    version = stores.catalog.publish(DEFAULT_PROJECT, "a", ref, made.id, "promoted")
    stores.jobs.cancel(made)
    return Project(stores, version, file(stores).id, file(stores).id)


def refused(job_id: str, *deletions: Callable[[], None]) -> None:
    for delete in deletions:
        with pytest.raises(Conflict, match=job_id):
            delete()


def holds(project: Project, request: AnyRequest, *deletions: Callable[[], None]) -> None:
    """While the job of the request lives each deletion is refused and names it; afterwards the first one is done."""
    jobs = project.stores.jobs
    queued = jobs.create(DEFAULT_PROJECT, request)
    refused(queued.id, *deletions)
    running = jobs.claim("o", 30)
    assert running is not None
    refused(running.id, *deletions)
    assert jobs.end(running, JobStatus.SUCCEEDED)
    deletions[0]()


@pytest.mark.parametrize("kind", list(VERSIONS))
def test_a_version_that_a_job_names(project: Project, kind: str):
    catalog = project.stores.catalog
    holds(
        project,
        VERSIONS[kind](project),
        lambda: catalog.delete_version(DEFAULT_PROJECT, project.version),
        lambda: catalog.delete_alias(DEFAULT_PROJECT, "a"),
    )


@pytest.mark.parametrize("kind", list(FILES))
def test_a_file_that_a_job_names(project: Project, kind: str):
    holds(project, FILES[kind](project), lambda: project.stores.catalog.delete_file(DEFAULT_PROJECT, project.other))
