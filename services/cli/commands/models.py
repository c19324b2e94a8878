"""`meteor models served|show|promote|rollback|delete`: the versions that an API has, and which of them is served."""

from typing import Annotated
from urllib.parse import quote

import typer

from services.cli.client import Resource, client
from services.cli.commands.exports import export
from services.cli.options import DEFAULT_DATA, Data, Json
from services.cli.output import Columns, emit_page, minute
from services.cli.verbs import Noun
from shared.contracts.capabilities import Capabilities
from shared.contracts.views import Listed, ModelObject
from shared.platform.terminal import emit

app = typer.Typer()
app.command("export")(export)
MODELS = Resource("/v1/models", ModelObject, Listed[ModelObject])
COLUMNS: Columns[ModelObject] = {
    "model": lambda model: model.id,
    "version": lambda model: model.version,
    "base": lambda model: model.parent,
    "made": lambda model: minute(model.created or None),  # 0 of a base
}


@app.command()
def served(as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """What can be asked: bases, aliases with the version that each serves, and versions."""
    with client(data) as api:
        page = api.ask(MODELS.page, "GET", MODELS.route)
    emit_page(page, COLUMNS, as_json, "meteor models served")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="an alias, alias@version or a base")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """One base, alias or version."""
    with client(data) as api:
        emit(api.ask(ModelObject, "GET", f"{MODELS.route}/{quote(model)}"), as_json)  # a base's name may hold a slash


@app.command()
def abilities(
    model: Annotated[str, typer.Argument(help="a base")], as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """What a base can do here, and why not, as the trainer has tried it."""
    with client(data) as api:
        emit(api.ask(Capabilities, "GET", f"{MODELS.route}/{quote(model)}/capabilities"), as_json)


def now_served(model: ModelObject) -> str:
    return f"{model.id} serves version {model.version}"


versions = Noun(app, "meteor models", MODELS, COLUMNS, "alias@version")
versions.add_act("promote", "Serve this version under its alias.", now_served)
aliases = Noun(app, "meteor models", MODELS, COLUMNS, "an alias")
aliases.add_act("rollback", "Serve the previous promoted version of an alias again.", now_served)
both = Noun(app, "meteor models", MODELS, COLUMNS, "alias@version, or an alias alone: then all its versions")
both.add_delete("Delete versions for good. Their weights are removed once nothing needs them.")
