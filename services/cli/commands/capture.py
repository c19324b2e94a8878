"""`meteor capture ...`: the share of an alias's chats that is stored without being asked for."""

from typing import Annotated

import typer

from services.cli.client import JsonObject, client
from services.cli.commands.models import MODELS
from services.cli.options import DEFAULT_DATA, Data, Json
from shared.contracts.completions import CaptureDeleted, CaptureObject
from shared.platform.terminal import emit

app = typer.Typer(help="Store a share of an alias's chats.", no_args_is_help=True)
Alias = Annotated[str, typer.Argument(help="the alias")]


@app.command("set")
def set_capture(
    alias: Alias,
    percent: Annotated[float, typer.Argument(help="of its chats", min=0, max=100)],
    mask: Annotated[bool, typer.Option("--mask", help="mask personal data in all stored chats of the alias")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Begin to store a share of the chats, or change it."""
    with client(data) as api:
        body: JsonObject = {"percent": percent, "mask": mask}
        capture = api.ask(CaptureObject, "POST", MODELS.path(alias, "capture"), body)
    emit(capture, as_json, sentence(capture))


@app.command()
def show(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """What is stored now."""
    with client(data) as api:
        capture = api.ask(CaptureObject, "GET", MODELS.path(alias, "capture"))
    emit(capture, as_json, sentence(capture))


@app.command()
def end(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Store only what asks for it. Chats that are stored stay."""
    with client(data) as api:
        deleted = api.ask(CaptureDeleted, "DELETE", MODELS.path(alias, "capture"))
    emit(deleted, as_json, f"{alias}: no capture any more")


def sentence(capture: CaptureObject) -> str:
    masked = ", masked" * capture.mask
    return f"{capture.percent:g} % of the chats with {capture.alias} are stored{masked}, and those that ask for it"
