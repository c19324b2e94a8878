"""`meteor keys ...`: who may use the API."""

import json
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic import ValidationError

from services.cli.client import DEFAULT_DATA, Data, Json, Refused, ask, client
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, minute, page_of, show_page
from shared.contracts.errors import UserError
from shared.contracts.keys import KeyRequest, Scope
from shared.platform import run_state
from shared.platform.terminal import make_console

app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/keys"
DAY_S = 24 * 3600
Usd = Annotated[float | None, typer.Option(help="what its jobs may spend in a month, in USD", min=0)]
Tokens = Annotated[int | None, typer.Option(help="input and output tokens in a month", min=0)]
Calls = Annotated[int | None, typer.Option(help="calls in a month", min=0)]
COLUMNS: Columns = {
    "id": lambda key: key["id"],
    "name": lambda key: key["name"],
    "key": lambda key: key["hint"],
    "project": lambda key: key["project"],
    "scopes": lambda key: " ".join(key["scopes"]),
    "state": lambda key: _state(key),
    "spent this month": lambda key: _budget(key),
    "last used": lambda key: minute(key["last_used_at"]) or "never",
}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what people tell it apart by")],
    scopes: Annotated[
        list[Scope] | None, typer.Option("--scope", help="may be repeated; default jobs chat files")
    ] = None,
    project: Annotated[str | None, typer.Option(help="a project's id; default: the caller's own")] = None,
    days: Annotated[float | None, typer.Option(help="it expires after so many days", min=0.001, max=3650)] = None,
    usd: Usd = None,
    tokens: Tokens = None,
    calls: Calls = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a key and show it, this once. From the first key on nobody gets in without one. Where no API runs on the data folder the
    key is put into its database, so there may be one before the first start."""
    body: dict[str, Any] = {"name": name}
    body |= {"scopes": [scope.value for scope in scopes]} if scopes else {}
    body |= {"project": project} if project else {}
    body |= {"expires_at": int(time.time() + days * DAY_S)} if days else {}
    body |= {"budget": given} if (given := _given(usd, tokens, calls)) else {}
    try:
        with client(data) as api:
            made = ask(api, "POST", ROUTE, json=body)
    except run_state.NotRunning:
        made = directly(data, body)
    if as_json:
        print(json.dumps(made))
        return
    print(made["key"])
    console.print(f"{made['id']} for {', '.join(made['scopes'])}; the key is not shown again", highlight=False)


def directly(data: Path, body: dict[str, Any]) -> dict[str, Any]:
    """As POST /v1/keys, by whoever can write into the database. Raises UserError."""
    from shared.jobs.schema import open_stores
    from shared.jobs.tables import DEFAULT_PROJECT
    from shared.ledger.store import open_ledger
    from shared.platform.settings import PlatformSettings
    from shared.security.api_keys import hash_secret, issue  # here: other commands need no database

    try:
        request = KeyRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", code="invalid_value") from error
    platform = PlatformSettings(data=data)
    store, ledger = open_stores(platform.database).keys, open_ledger(platform.ledger_database)
    made = issue(store, ledger, hash_secret(platform), request.project or DEFAULT_PROJECT, request)
    return made.model_dump(mode="json")


@app.command("list")
def list_keys(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest keys, without the keys themselves."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor keys list")


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="an id, as `meteor keys list` shows it")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """One key, without the key itself."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{quote(key, safe='')}")
    print(json.dumps(found)) if as_json else console.print_json(json.dumps(found))


@app.command()
def budget(
    key: Annotated[str, typer.Argument(help="an id, as `meteor keys list` shows it")],
    usd: Usd = None,
    tokens: Tokens = None,
    calls: Calls = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give a key another budget for each month. Jobs that paused because of the old one can be resumed."""
    given = _given(usd, tokens, calls)
    if not given:
        raise Refused("say how much: --usd, --tokens or --calls")
    with client(data) as api:
        found = ask(api, "PATCH", f"{ROUTE}/{quote(key, safe='')}", json={"budget": given})
    print(json.dumps(found)) if as_json else console.print(f"{key} may spend {_budget(found)}", highlight=False)


@app.command()
def revoke(
    keys: Annotated[list[str], typer.Argument(help="ids, as `meteor keys list` shows them")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Let keys open nothing any more, at once and for good."""
    with client(data) as api:
        for key_id in keys:
            answer = ask(api, "DELETE", f"{ROUTE}/{quote(key_id, safe='')}")
            if as_json:
                print(json.dumps(answer))
            else:
                console.print(f"{key_id} revoked", highlight=False, markup=False)


def _given(usd: float | None, tokens: int | None, calls: int | None) -> dict[str, float]:
    budget = {"max_usd": usd, "max_tokens": tokens, "max_calls": calls}
    return {name: limit for name, limit in budget.items() if limit is not None}


def _budget(key: dict[str, Any]) -> str:
    """What is spent of each limit in this month."""
    parts = []
    for name in ("usd", "tokens", "calls"):
        most, spent = key["budget"][f"max_{name}"], key["spent"][name]
        parts += [f"{spent:.4g} of {most:g} {name if name != 'usd' else 'USD'}"] if most is not None else []
    return ", ".join(parts) or "no limit"


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return f"revoked {minute(key['revoked_at'])}"
    if not key["expires_at"]:
        return "open"
    return f"{'expired' if key['expires_at'] <= time.time() else 'open until'} {minute(key['expires_at'])}"
