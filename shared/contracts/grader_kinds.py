"""Graders that verify: what a job may ask for beyond the named text similarities, each with its own settings."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.json_types import Json, Number, Switch, Whole


class GraderKind(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NumberGrader(GraderKind):
    """The last number of the answer against the reference's. absolute, relative: the difference that is allowed, the larger of
    both. unit: units must agree where both have one. decimal: which sign stands before a fraction (1,234: thousands or not)."""

    type: Literal["number"]
    absolute: Number = Field(default=0.0, ge=0, allow_inf_nan=False)
    relative: Number = Field(default=1e-9, ge=0, le=1)
    unit: Switch = True
    decimal: Literal[".", ","] = "."


class JsonEqualGrader(GraderKind):
    """The JSON value of the answer equals the reference's. ordered: the order of lists counts. ignore: names of fields that do
    not count. relative: how far numbers may differ."""

    type: Literal["json_equal"]
    ordered: Switch = True
    ignore: list[str] = Field(default=[], max_length=100)
    relative: Number = Field(default=1e-9, ge=0, le=1)


class JsonSchemaGrader(GraderKind):
    """The JSON value of the answer meets a JSON schema: the one given here, else the row's reference."""

    type: Literal["json_schema"]
    of: Json | None = Field(default=None, alias="schema")


class RegexEqualGrader(GraderKind):
    """The answer is a regular expression of the same language as the reference, compared as minimal automata.

    syntax: python, or deep_regex: the spaced tokens of NL-RX (Locascio et al. 2016), with `&` and `~`.
    """

    type: Literal["regex_equal"]
    syntax: Literal["python", "deep_regex"] = "python"
    timeout_s: Number = Field(default=2.0, gt=0, le=60)


class SqlResultGrader(GraderKind):
    """The answer is a query with the same result as the reference's. database: id of an uploaded SQLite file.

    The order of rows counts only where the reference orders. Column names do not count.
    """

    type: Literal["sql_result"]
    database: str = Field(min_length=1, max_length=100)
    timeout_s: Number = Field(default=2.0, gt=0, le=60)
    max_rows: Whole = Field(default=10_000, ge=1, le=1_000_000)


VerifyingGrader = Annotated[
    NumberGrader | JsonEqualGrader | JsonSchemaGrader | RegexEqualGrader | SqlResultGrader, Field(discriminator="type")
]
VERIFYING = ("number", "json_equal", "json_schema", "regex_equal", "sql_result")
UNGRADABLE = "reference"  # why a row has no score: its reference cannot be graded against
ALONE = ("number", "json_equal", "json_schema", "regex_equal")  # those whose settings all have a default


def is_verifying(value: Any) -> bool:
    """Whether a value of a request names one of the kinds above."""
    return isinstance(value, dict) and value.get("type") in VERIFYING
