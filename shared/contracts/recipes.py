"""Recipes: jobs that are made again when there is new data, or when it is time. POST|GET|DELETE /v1/recipes."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from shared.contracts.distillation import Budget, Strict
from shared.contracts.errors import ErrorBody
from shared.contracts.imports import CompletionsOptions
from shared.contracts.json_types import Json, Whole
from shared.contracts.keys import Title

RECIPE, RUN = "recipe", "recipe_run"  # the keys by which a job's metadata says which run of which recipe made it
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=366)


class FileSource(Strict):
    """The newest version of a dataset, at the time of each run. file: the id of any of its versions."""

    type: Literal["file"]
    file: str = Field(min_length=1, max_length=64)


class ChatsSource(CompletionsOptions):
    """New stored chats, chosen as in an import, and the dataset that they go into.

    A run takes each chat once, and once more if it is corrected afterwards. dataset: without it the first run makes one. mask: personal
    data is masked in the rows.
    """

    mask: bool = False


RecipeSource = Annotated[FileSource | ChatsSource, Field(discriminator="type")]


class Trigger(Strict):
    """One of both. rows: a job when the source has at least so many rows, or new chats, more than the last run had. every: a job after each period, as
    an ISO 8601 duration such as P7D, or in seconds."""

    rows: Whole | None = Field(default=None, ge=1, le=10**9)
    every: Annotated[timedelta, Field(ge=SHORTEST, le=LONGEST)] | None = None


class RecipeRequest(Strict):
    """Body of POST /v1/recipes. job: the body of a distillation job without `training_file`, which the source names. budget: of each job,
    in place of the one in `job`."""

    name: Title
    job: Json
    source: RecipeSource
    trigger: Trigger
    budget: Budget | None = None


class RunStatus(StrEnum):
    """making: its chats are being imported, or its job is being checked and queued. nothing_new: the chats brought no row, so there is no
    job."""

    MAKING = "making"
    MADE = "made"
    NOTHING_NEW = "nothing_new"
    FAILED = "failed"


class RecipeRun(BaseModel):
    """file, rows: what the job learns from. import_id: the import of its chats. error: why no job was made."""

    number: int
    status: RunStatus
    at: int
    file: str | None
    rows: int | None
    job_id: str | None
    import_id: str | None = None
    error: ErrorBody | None = None


class RecipeObject(BaseModel):
    """next_run_at: when it is tried next; null while it is paused, and where only new rows tell. new_rows: rows, or chats, of the
    source that no run has used; null where there is no source any more. dataset: the newest version of what its jobs learn from. waits_for:
    the import or the job of the last run, until it has ended."""

    id: str
    object: Literal["recipe"] = "recipe"
    created_at: int
    name: str
    status: Literal["active", "paused"]
    job: Json
    source: RecipeSource
    dataset: str | None
    trigger: Trigger
    budget: Budget | None
    runs: int
    last_run: RecipeRun | None
    next_run_at: int | None
    new_rows: int | None
    waits_for: str | None
