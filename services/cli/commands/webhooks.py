"""`meteor webhooks ...`: who is told of what happens to jobs."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, Data, Json, Refused, ask, client
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, minute, page_of, show_page
from shared.contracts.webhooks import WebhookEvent
from shared.platform.terminal import make_console

app = typer.Typer(help="Webhooks: make, list, try, look at what they were told.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/webhooks"
COLUMNS: Columns = {
    "id": lambda hook: hook["id"],
    "name": lambda hook: hook["name"],
    "address": lambda hook: hook["url"],
    "state": lambda hook: hook["disabled_reason"] or "on",
    "events": lambda hook: _short(hook["event_types"]),
}
DELIVERIES: Columns = {
    "id": lambda one: one["id"],
    "of": lambda one: minute(one["created_at"]),
    "event": lambda one: one["event_type"],
    "state": lambda one: one["state"],
    "attempts": lambda one: one["attempts"],
    "last answer": lambda one: _last(one["log"]),
}
Webhook = Annotated[str, typer.Argument(help="an id, as `meteor webhooks list` shows it")]
Events = Annotated[list[WebhookEvent] | None, typer.Option("--event", help="may be repeated; default: all of them")]


def _route(webhook: str, *rest: str) -> str:
    return "/".join([ROUTE, *(quote(part, safe="") for part in (webhook, *rest))])


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="where messages are posted to")],
    events: Events = None,
    name: Annotated[str, typer.Option(help="what people tell it apart by")] = "webhook",
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a webhook and show its signing secret, this once."""
    body: dict[str, Any] = {"url": url, "name": name}
    body |= {"event_types": [event.value for event in events]} if events else {}
    with client(data) as api:
        made = ask(api, "POST", ROUTE, json=body)
    _tell_secret(made, as_json)


@app.command("list")
def list_webhooks(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest webhooks, those of single jobs among them."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor webhooks list")


@app.command()
def show(webhook: Webhook, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """One webhook, without its secret."""
    with client(data) as api:
        found = ask(api, "GET", _route(webhook))
    print(json.dumps(found)) if as_json else console.print_json(json.dumps(found))


@app.command()
def change(
    webhook: Webhook,
    url: Annotated[str | None, typer.Option(help="another address")] = None,
    events: Annotated[list[WebhookEvent] | None, typer.Option("--event", help="these alone from now on")] = None,
    name: Annotated[str | None, typer.Option(help="another name")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Another address, other events or another name; the secret stays."""
    given = {"url": url, "event_types": [event.value for event in events or []], "name": name}
    body = {field: value for field, value in given.items() if value}
    if not body:
        raise Refused("say what to change: --url, --event or --name")
    with client(data) as api:
        answer = ask(api, "PATCH", _route(webhook), json=body)
    print(json.dumps(answer)) if as_json else console.print(f"{webhook} changed", highlight=False)


@app.command()
def rotate(
    webhook: Webhook,
    keep: Annotated[bool, typer.Option("--keep", help="sign with the old secret too, for a day")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give a webhook another signing secret and show it, this once."""
    with client(data) as api:
        body = {"keep_old_secret_active_for_24_hours": keep}
        _tell_secret(ask(api, "POST", _route(webhook, "rotate_secret"), json=body), as_json)


def _tell_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(made))
        return
    print(made["signing_secret"])
    console.print(f"{made['id']} for {', '.join(made['event_types'])}; the secret is not shown again", highlight=False)


@app.command()
def deliveries(
    webhook: Webhook,
    state: Annotated[str | None, typer.Option(help="pending, delivered or failed")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What a webhook was told, the newest first, and how that went."""
    with client(data) as api:
        page = page_of(api, _route(webhook, "deliveries"), limit, after, state=state)
    more = f"meteor webhooks deliveries {webhook}" + (f" --state {state}" if state else "")
    show_page(console, page, DELIVERIES, as_json, more)


@app.command()
def replay(webhook: Webhook, delivery: str, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Send something once more, under its old id."""
    with client(data) as api:
        answer = ask(api, "POST", _route(webhook, "deliveries", delivery, "replay"))
    print(json.dumps(answer)) if as_json else console.print(f"{delivery} is sent again", highlight=False)


@app.command("test")
def try_out(
    webhook: Webhook, event: WebhookEvent = WebhookEvent.SUCCEEDED, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """Send one message about a job that does not exist, now. Exit code 1 unless the answer is 2xx."""
    with client(data) as api:
        answer = ask(api, "POST", _route(webhook, "test"), json={"event_type": event.value})
    if as_json:
        print(json.dumps(answer))
    else:
        console.print(f"it answered {answer['status_code']}", highlight=False)
    if not 200 <= answer["status_code"] < 300:
        raise typer.Exit(1)


@app.command()
def enable(webhook: Webhook, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Tell a webhook things again that was disabled or answered 410."""
    _switch(webhook, True, as_json, data)


@app.command()
def disable(webhook: Webhook, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Tell a webhook nothing for now."""
    _switch(webhook, False, as_json, data)


def _switch(webhook: str, on: bool, as_json: bool, data: Path) -> None:
    with client(data) as api:
        answer = ask(api, "PATCH", _route(webhook), json={"disabled": not on})
    print(json.dumps(answer)) if as_json else console.print(f"{webhook} is {'on' if on else 'off'}", highlight=False)


@app.command()
def delete(
    webhooks: Annotated[list[str], typer.Argument(help="ids, as `meteor webhooks list` shows them")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Remove webhooks and what they were told."""
    with client(data) as api:
        for webhook in webhooks:
            answer = ask(api, "DELETE", _route(webhook))
            print(json.dumps(answer)) if as_json else console.print(f"{webhook} deleted", highlight=False)


def _short(events: list[str]) -> str:
    return "all" if len(events) == len(WebhookEvent) else " ".join(events)


def _last(log: list[dict[str, Any]]) -> str:
    if not log:
        return "none yet"
    return str(log[-1]["status"] or log[-1]["error"])
