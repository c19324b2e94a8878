"""Human preferences: two answers to one question and which is better. The judge is measured on them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.distillation import NO_NUL
from shared.contracts.json_types import Json
from shared.contracts.steps import content_hash

Preferred = Literal["first", "second", "tie"]
Text = Annotated[str, Field(max_length=32_000, pattern=NO_NUL)]  # more than a judge can be shown
MOST_AT_ONCE = 500  # labels in one request


class Label(BaseModel):
    """One row of POST /v1/labels. An answer may be empty: models do give none."""

    model_config = ConfigDict(extra="forbid")

    question: Text = Field(min_length=1)
    first: Text
    second: Text
    preferred: Preferred
    reference: Text | None = None

    @model_validator(mode="after")
    def _tells_something(self) -> "Label":
        if not self.question.strip():
            raise ValueError("question is blank")
        if self.first == self.second and self.preferred != "tie":
            raise ValueError("the two answers are the same, so neither can be preferred; say tie or leave the row out")
        return self

    @property
    def digest(self) -> str:
        """The same label given twice is one label."""
        return content_hash(self.model_dump(mode="json"))


class LabelsRequest(BaseModel):
    """Body of POST /v1/labels. Rows are checked one by one, so that every bad one is named."""

    model_config = ConfigDict(extra="forbid")

    labels: list[Json] = Field(min_length=1, max_length=MOST_AT_ONCE)


class LabelObject(BaseModel):
    """A `label` as it is listed."""

    id: str
    object: Literal["label"] = "label"
    created_at: int
    question: str
    first: str
    second: str
    preferred: Preferred
    reference: str | None = None


class LabelsAdded(BaseModel):
    """What a request changed. known: rows that were here already. total: labels of the project now."""

    object: Literal["label.batch"] = "label.batch"
    added: int
    known: int
    total: int
