"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import JsonValue, ValidationError

from services.cli.client import JsonObject, problem_of
from shared.contracts.errors import UserError
from shared.contracts.file_reading import ReadOptions

Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder of the run")]
Json = Annotated[bool, typer.Option("--json", help="the API's answer, for scripts")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="at most this many")]
After = Annotated[str | None, typer.Option(help="start after this id")]
Job = Annotated[str, typer.Argument(help="a job's id; `last` is the newest one")]
JobBody = Annotated[Path, typer.Argument(help="a job's body as JSON, such as examples/shell.job.json")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, such as distillation.iterate.rounds=3")]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="FIELD=COLUMN, such as question=prompt (may be repeated); reference= says that there is none"
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="follow it to its end, as `watch` does")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="leave bad rows out and count them")]
AllAnswers = Annotated[
    bool, typer.Option("--all-answers", help="make a row of each answer of a conversation, not only of the last one")
]
MaskIt = Annotated[
    bool, typer.Option("--mask", help="mask personal data, before a strong model sees it, and count it by kind")
]
Member = Annotated[str, typer.Option(help="the one file of a zip that is read; without it all of one shape")]
DEFAULT_DATA = Path(".meteor")
DEFAULT_LIMIT = 20


def pair(option: str, text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises BadParameter."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{option} wants KEY=VALUE, not {text!r}")
    return key, value


def mapping_of(pairs: list[str] | None) -> dict[str, str]:
    """Our field -> the file's. Raises UserError."""
    parts = [item.partition("=") for item in pairs or []]
    if not all(name and equals for name, equals, _ in parts):
        raise UserError("--map takes FIELD=COLUMN, such as question=instruction", code="invalid_value")
    return {name: column for name, _, column in parts}


def read_options(
    maps: list[str] | None, skip_bad: bool, all_answers: bool = False, mask: bool = False, member: str = ""
) -> ReadOptions:
    """Those that were given. Raises UserError."""
    told: dict[str, Any] = {"mapping": mapping_of(maps)} if maps else {}
    told |= {"answers": "all"} if all_answers else {}
    told |= {"member": member} if member else {}
    told |= {name: True for name, value in (("skip_bad", skip_bad), ("mask", mask)) if value}
    try:
        return ReadOptions.model_validate(told)
    except ValidationError as error:
        raise UserError(problem_of(error), code="invalid_value") from error


def given(**values: JsonValue) -> JsonObject:
    """The options that were given, as a part of a request's body."""
    return {name: value for name, value in values.items() if value is not None}
