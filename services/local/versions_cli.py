"""`meteor models delete`: versions that nobody is to ask any more."""

import json
from typing import Annotated
from urllib.parse import quote

import typer

from services.local.progress import make_console
from services.local.remote import DEFAULT_DATA, Data, Json, ask, client

console = make_console()


def delete(
    names: Annotated[list[str], typer.Argument(help="alias@version, or an alias alone: then all its versions")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take versions out of the list of models, for good. Their weights go once nothing needs them."""
    with client(data) as api:
        for name in names:
            answer = ask(api, "DELETE", f"/v1/models/{quote(name, safe='')}")
            print(json.dumps(answer)) if as_json else console.print(f"{name} deleted", highlight=False, markup=False)
