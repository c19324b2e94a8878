"""Where a dataset can be made from, and the import as users post and read it."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.distillation import NO_NUL, Strict

FileId = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_NUL)]
Short = Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)]


class ChatOptions(Strict):
    """OpenAI's chat rows (JSONL)."""

    type: Literal["chat"] = "chat"


class StackExchangeOptions(Strict):
    """Posts.xml of a Stack Exchange site, plain or zipped. preset "paper": the four fields of METEOR's paper.

    limit: the so many highest scored. A question's category is the first of `tags` that it has.
    """

    type: Literal["stackexchange"] = "stackexchange"
    site: str = Field(default="stackoverflow.com", pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$", description="for the links")
    preset: Literal["paper"] | None = None
    tags: list[Short] = Field(default=[], max_length=100)
    min_score: int = Field(default=1, ge=-(2**31), lt=2**31)
    min_answer_score: int = Field(default=0, ge=-(2**31), lt=2**31)
    limit: int | None = Field(default=None, ge=1, le=1_000_000)


class HubOptions(Strict):
    """A dataset of the Hugging Face hub: its Parquet and JSONL files, never its code.

    columns: our field -> the dataset's column; dots lead into nested values, as in answers.text.0. Without any, columns of
    usual names are taken.
    """

    type: Literal["hub"] = "hub"
    dataset: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$")
    revision: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")
    config: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="a folder of it")
    split: str = Field(default="train", pattern=r"^[A-Za-z0-9_]{1,50}$")
    columns: dict[
        Literal["question", "reference", "title", "context", "category", "group", "id", "messages"], Short
    ] = Field(default={})
    limit: int | None = Field(default=None, ge=1, le=1_000_000)
