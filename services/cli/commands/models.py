"""`meteor models served|show|promote|rollback|delete`: the versions that an API has, and which of them is served."""

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, Data, Json, ask, client
from services.cli.commands.exports import export
from services.cli.output import Columns, minute, show_page
from shared.platform.terminal import make_console

app = typer.Typer()
app.command("export")(export)
console = make_console()
ROUTE = "/v1/models"
SERVED: Columns = {
    "model": lambda model: model["id"],
    "version": lambda model: model["version"],
    "base": lambda model: model["parent"],
    "made": lambda model: minute(model["created"] or None),  # of a base nobody knows
}


@app.command()
def served(as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """What can be asked: bases, aliases with the version that each serves, and versions."""
    with client(data) as api:
        page = ask(api, "GET", ROUTE)
    show_page(console, page, SERVED, as_json, "meteor models served")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="an alias, alias@version or a base")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """One of them."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{quote(model)}")  # the name of a base may hold a slash
    print(json.dumps(found)) if as_json else console.print_json(json.dumps(found))


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="alias@version")], as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """Let an alias serve this version."""
    _moved(model, "promote", as_json, data)


@app.command()
def rollback(
    alias: Annotated[str, typer.Argument(help="an alias")], as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """Let an alias serve the promoted version before."""
    _moved(alias, "rollback", as_json, data)


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(help="alias@version, or an alias alone: then all its versions")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take versions out of the list of models, for good. Their weights go once nothing needs them."""
    with client(data) as api:
        for name in names:
            answer = ask(api, "DELETE", f"{ROUTE}/{quote(name, safe='')}")
            print(json.dumps(answer)) if as_json else console.print(f"{name} deleted", highlight=False, markup=False)


def _moved(model: str, move: str, as_json: bool, data: Path) -> None:
    with client(data) as api:
        found = ask(api, "POST", f"{ROUTE}/{quote(model, safe='')}/{move}")
    if as_json:
        print(json.dumps(found))
    else:
        console.print(f"{found['id']} serves version {found['version']}", highlight=False, markup=False)
