"""`meteor canary ...`: a version that is tried beside the one that its alias serves."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, Data, Json, ask, client
from shared.platform.terminal import make_console

app = typer.Typer(help="Try a version on a share of the conversations before it is served.", no_args_is_help=True)
console = make_console()
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
    body = {"version": version, "percent": percent, "shadow": shadow}
    with client(data) as api:
        _show(ask(api, "POST", _route(alias), json=body), as_json)


@app.command()
def show(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """What is tried now."""
    with client(data) as api:
        _show(ask(api, "GET", _route(alias)), as_json)


@app.command()
def end(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Back to the served version alone. `meteor models promote ALIAS@VERSION` serves the other one to all."""
    with client(data) as api:
        answer = ask(api, "DELETE", _route(alias))
    if as_json:
        print(json.dumps(answer))
    else:
        console.print(f"{alias}: no canary any more", highlight=False, markup=False)


def _route(alias: str) -> str:
    return f"/v1/models/{quote(alias, safe='')}/canary"


def _show(canary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(canary))
        return
    alias, served, tried = (canary[name] for name in ("alias", "served", "version"))
    share = f"{canary['percent']:g} % of conversations"
    what = f"{share} are copied to {alias}@{tried}" if canary["shadow"] else f"{alias}@{tried} answers {share}"
    console.print(f"{alias}@{served} is served; {what}", highlight=False, markup=False)
