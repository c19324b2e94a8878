"""The right to be forgotten: what is deleted of a person or a row, and where it had gone: POST /v1/forget."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.distillation import NO_NUL, Strict
from shared.contracts.feedback import CompletionId
from shared.contracts.imports import FileId
from shared.contracts.json_types import Json
from shared.contracts.versions import RowId

MOST = 10_000  # ids of one request


class ForgetRequest(Strict):
    """One of: user (as in `user` or `safety_identifier` of chats, or the author of feedback); completions; rows of a file.

    dry_run: say what would be deleted and where it had gone, and delete nothing.
    """

    user: Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL)] | None = None
    completions: list[CompletionId] = Field(default=[], max_length=MOST)
    file: FileId | None = None
    rows: list[RowId] = Field(default=[], max_length=MOST)
    dry_run: bool = False

    @model_validator(mode="after")
    def _names_one(self) -> "ForgetRequest":
        if (self.file is None) != (not self.rows):
            raise ValueError("file and rows belong together: rows are named by their ids in a file")
        if [self.user is not None, bool(self.completions), self.file is not None].count(True) != 1:
            raise ValueError("name one of user, completions, or file with rows")
        return self


class Call(BaseModel):
    """A request that can be sent as it stands. body null: it has none."""

    method: Literal["POST", "DELETE"] = "POST"
    path: str
    body: Json | None = None


class HeldBy(BaseModel):
    """A version of a dataset that holds rows. deleted: its file was deleted; its rows stay for jobs that used it. remove: makes the next
    version without them; null for a deleted one."""

    file: str
    dataset: str
    version: int
    deleted: bool
    rows: list[str]
    remove: Call | None = None


class LearnedBy(BaseModel):
    """A version that learned from rows. rows: those that its own trainings read. inherited: it went on from a version or a student that
    learned from rows. certain: false where the job's steps have expired, so that only the dataset is known."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    job: str
    state: str
    served: bool
    rows: list[str]
    inherited: bool = False
    certain: bool = True


class EvaluatedBy(BaseModel):
    """A run of an eval whose items hold such rows or texts. file: the upload with its items; null where the run itself has them. items:
    their places, from 0, as in `datasource_item_id`. remove: deletes the run, once it has ended."""

    eval: str
    run: str
    file: str | None
    items: list[int]
    remove: Call


class ExportedBy(BaseModel):
    """An export of a version that learned from rows. pushed: where on the hub it is."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    model: str
    pushed: str | None = None


class ForgetResult(BaseModel):
    """completions, feedback, labels: how many were deleted (dry_run: would be). labels: human preferences on
    the question of such a row or chat. cached: answers of strong models to their rows that were deleted
    from the cache. rows: ids of the rows that are looked for in datasets. retrain: for each job that learned from rows, the fork that leaves them out."""

    object: Literal["forgetting"] = "forgetting"
    dry_run: bool
    completions: int
    feedback: int
    labels: int = 0
    cached: int = 0
    rows: list[str]
    datasets: list[HeldBy]
    models: list[LearnedBy]
    evals: list[EvaluatedBy] = []
    exports: list[ExportedBy] = []
    retrain: list[Call]
