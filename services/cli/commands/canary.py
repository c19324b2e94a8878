"""`meteor canary ...`: a version that is tried beside the one that its alias serves."""

from typing import Annotated

import typer

from services.cli.client import JsonObject, client
from services.cli.commands.models import MODELS
from services.cli.options import DEFAULT_DATA, Data, Json
from shared.contracts.canary import CanaryDeleted, CanaryObject
from shared.platform.terminal import emit

app = typer.Typer(help="Try a version on a share of the conversations before it is served.", no_args_is_help=True)
Alias = Annotated[str, typer.Argument(help="the alias that is served")]


@app.command("set")
def set_canary(
    alias: Alias,
    version: Annotated[int, typer.Argument(help="the version's number", min=1)],
    percent: Annotated[float, typer.Option(help="of conversations", min=0, max=100)] = 10.0,
    shadow: Annotated[bool, typer.Option("--shadow", help="copies only: the served version answers everybody")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Begin to try a version, or change how. It ends when the alias moves."""
    with client(data) as api:
        body: JsonObject = {"version": version, "percent": percent, "shadow": shadow}
        canary = api.ask(CanaryObject, "POST", MODELS.path(alias, "canary"), body)
    emit(canary, as_json, sentence(canary))


@app.command()
def show(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """What is tried now."""
    with client(data) as api:
        canary = api.ask(CanaryObject, "GET", MODELS.path(alias, "canary"))
    emit(canary, as_json, sentence(canary))


@app.command()
def end(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Back to the served version alone. `meteor models promote ALIAS@VERSION` serves the other one to all."""
    with client(data) as api:
        deleted = api.ask(CanaryDeleted, "DELETE", MODELS.path(alias, "canary"))
    emit(deleted, as_json, f"{alias}: no canary any more")


def sentence(canary: CanaryObject) -> str:
    share, tried = f"{canary.percent:g} % of conversations", f"{canary.alias}@{canary.version}"
    what = f"{share} are copied to {tried}" if canary.shadow else f"{tried} answers {share}"
    return f"{canary.alias}@{canary.served} is served; {what}"
