"""`meteor keys ...`: who may use the API."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from services.cli.client import JsonObject, Refused, Resource, client, problem_of
from services.cli.options import DEFAULT_DATA, Data, Json, given
from services.cli.output import Columns, minute
from services.cli.verbs import Noun
from shared.contracts.errors import UserError
from shared.contracts.keys import KeyObject, KeyRequest, NewKey, Scope
from shared.contracts.views import Listed
from shared.platform import run_state
from shared.platform.terminal import emit, say

app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
KEYS = Resource("/v1/keys", KeyObject, Listed[KeyObject])
DAY_S = 24 * 3600
FIRST_KEY = (
    "This is the first key. From now on every request needs one, also from this machine: the page in the browser asks for it, and "
    "clients that send none get 401. `meteor` on this data folder goes on without one. Revoking the key later does not open the "
    "API again."
)
Usd = Annotated[float | None, typer.Option(help="what its jobs may spend in a month, in USD", min=0)]
Tokens = Annotated[int | None, typer.Option(help="input and output tokens in a month", min=0)]
Calls = Annotated[int | None, typer.Option(help="calls in a month", min=0)]


def budget_of(key: KeyObject) -> str:
    """What is spent of each limit in this month."""
    limits = (
        (key.spent.usd, key.budget.max_usd, "USD"),
        (key.spent.tokens, key.budget.max_tokens, "tokens"),
        (key.spent.calls, key.budget.max_calls, "calls"),
    )
    return (
        ", ".join(f"{spent:.4g} of {limit:g} {unit}" for spent, limit, unit in limits if limit is not None)
        or "no limit"
    )


def state_of(key: KeyObject) -> str:
    if key.revoked_at:
        return f"revoked {minute(key.revoked_at)}"
    if not key.expires_at:
        return "open"
    return f"{'expired' if key.expires_at <= time.time() else 'open until'} {minute(key.expires_at)}"


COLUMNS: Columns[KeyObject] = {
    "id": lambda key: key.id,
    "name": lambda key: key.name,
    "key": lambda key: key.hint,
    "project": lambda key: key.project,
    "scopes": lambda key: " ".join(key.scopes),
    "state": state_of,
    "spent this month": budget_of,
    "last used": lambda key: minute(key.last_used_at) or "never",
}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="a name for people")],
    scopes: Annotated[
        list[Scope] | None, typer.Option("--scope", help="may be repeated; default jobs chat files")
    ] = None,
    project: Annotated[str | None, typer.Option(help="a project's id; default: the caller's own")] = None,
    days: Annotated[float | None, typer.Option(help="it expires after so many days", min=0.001, max=3650)] = None,
    usd: Usd = None,
    tokens: Tokens = None,
    calls: Calls = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="make the first key without asking")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a key and show it, this once. From the first key on nobody gets in without one; a terminal is asked before. Where no API
    runs on the data folder the key is put into its database, so there may be one before the first start."""
    body: JsonObject = {"name": name}
    if scopes:
        body["scopes"] = [scope.value for scope in scopes]
    body |= {"project": project} if project else {}
    body |= {"expires_at": int(time.time() + days * DAY_S)} if days else {}
    body |= {"budget": limits} if (limits := given(max_usd=usd, max_tokens=tokens, max_calls=calls)) else {}
    try:
        with client(data) as api:
            warn_of_first(api.asks_no_key(), yes)
            key = api.ask(NewKey, "POST", KEYS.route, body)
    except run_state.NotRunning:
        key = create_in_database(data, body, yes)
    emit(key, as_json, key.key)
    if not as_json:
        say(f"{key.id} for {', '.join(key.scopes)}; the key is not shown again")


def warn_of_first(is_first: bool, yes: bool) -> None:
    """Says what the first key changes, on standard error; a person at a terminal must agree. Raises typer.Abort."""
    if not is_first:
        return
    typer.echo(FIRST_KEY, err=True)
    if not yes and sys.stdin.isatty():
        typer.echo(
            "Make it? [y/N] ", nl=False, err=True
        )  # typer.confirm writes a blank to standard output, before the key
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise typer.Abort


def create_in_database(data: Path, body: JsonObject, yes: bool) -> NewKey:
    """As POST /v1/keys, by whoever can write into the database. Raises UserError."""
    from shared.jobs.schema import open_stores  # here: other commands need no database
    from shared.jobs.tables import DEFAULT_PROJECT
    from shared.ledger.store import open_ledger
    from shared.platform.settings import PlatformSettings
    from shared.security.api_keys import hash_secret, issue

    try:
        request = KeyRequest.model_validate(body)
    except ValidationError as error:
        raise UserError(problem_of(error), code="invalid_value") from error
    platform = PlatformSettings(data=data)
    store, ledger = open_stores(platform.database).keys, open_ledger(platform.ledger_database)
    warn_of_first(not store.any() and not os.environ.get("METEOR_API_KEYS"), yes)
    key = issue(store, ledger, hash_secret(platform), request.project or DEFAULT_PROJECT, request)
    return NewKey.model_validate(key.model_dump())  # with all fields set, as in an answer


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
    limits = given(max_usd=usd, max_tokens=tokens, max_calls=calls)
    if not limits:
        raise Refused("say how much: --usd, --tokens or --calls")
    with client(data) as api:
        changed = api.change(KEYS, key, {"budget": limits})
    emit(changed, as_json, f"{key} may spend {budget_of(changed)}")


noun = Noun(app, "meteor keys", KEYS, COLUMNS, "an id, as `meteor keys list` shows it")
noun.add_list("The newest keys, without the keys themselves.")
noun.add_show("One key, without the key itself.")
noun.add_delete("Revoke keys, at once and for good.", done="revoked", name="revoke")
