"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from services.cli.client import JsonObject
from shared.contracts.errors import UserError

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
DEFAULT_DATA = Path(".meteor")
DEFAULT_LIMIT = 20


def mapping_of(pairs: list[str] | None) -> dict[str, str]:
    """Our field -> the file's. Raises UserError."""
    parts = [item.partition("=") for item in pairs or []]
    if not all(name and equals for name, equals, _ in parts):
        raise UserError("--map takes FIELD=COLUMN, such as question=instruction", code="invalid_value")
    return {name: column for name, _, column in parts}


def given(**values: JsonValue) -> JsonObject:
    """The options that were given, as a part of a request's body."""
    return {name: value for name, value in values.items() if value is not None}
