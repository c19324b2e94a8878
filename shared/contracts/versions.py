"""Versions of a dataset: the change that makes one, and the difference between two."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from shared.contracts.data import MAX_ID, Question
from shared.contracts.distillation import NO_NUL, Strict
from shared.contracts.json_types import Json

MOST_NAMED = 10_000  # rows that one request may give or name; more come as a file
RowId = Annotated[str, Field(min_length=1, max_length=MAX_ID, pattern=NO_NUL)]


class VersionRequest(Strict):
    """Body of POST /v1/files/{file_id}/versions: how the new version differs from this one.

    append: rows of any shape that an upload takes. append_file: an uploaded file whose rows are appended, read as it was uploaded.
    edit: objects with the `id` of a row and the fields that change; null empties one. remove: ids of rows. Rows stay in the split
    that they have; new ones go where those are that they have something in common with.
    """

    append: list[Json] = Field(default=[], max_length=MOST_NAMED)
    append_file: str | None = Field(default=None, max_length=200, pattern=NO_NUL)
    edit: list[Json] = Field(default=[], max_length=MOST_NAMED)
    remove: list[RowId] = Field(default=[], max_length=MOST_NAMED)

    @model_validator(mode="after")
    def _changes_something(self) -> "VersionRequest":
        if not (self.append or self.append_file or self.edit or self.remove):
            raise ValueError("a new version appends, edits or removes rows; name some")
        return self


class DatasetRow(Question):
    """A row of a dataset. split: the side that it stands on."""

    object: Literal["dataset.row"] = "dataset.row"


class RowChange(BaseModel):
    """One row that is not the same in both. before: null where it was added; after: null where it was removed."""

    id: str
    change: Literal["removed", "changed", "added"]
    before: Question | None = None
    after: Question | None = None


class FileDiff(BaseModel):
    """What turned the rows of `against` into those of `file`: counts, and one page of the rows: first the removed, then the changed,
    then the added. Go on with `after` = last_id while has_more is true."""

    object: Literal["file.diff"] = "file.diff"
    file: str
    against: str
    removed: int
    changed: int
    added: int
    unchanged: int
    data: list[RowChange]
    first_id: str | None
    last_id: str | None
    has_more: bool
