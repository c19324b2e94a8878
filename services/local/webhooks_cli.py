"""`meteor webhooks ...`: who is told of what happens to jobs."""

import json
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from services.local.jobs_cli import Data, ask, client
from services.local.progress import make_console
from shared.contracts.webhooks import WebhookEvent

app = typer.Typer(help="Webhooks: make, list, try, look at what they were told.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/webhooks"
HERE = Path(".meteor")
Json = Annotated[bool, typer.Option("--json", help="the API's answer, for scripts")]
Webhook = Annotated[str, typer.Argument(help="an id, as `meteor webhooks list` shows it")]


def _route(webhook: str, *rest: str) -> str:
    return "/".join([ROUTE, *(quote(part, safe="") for part in (webhook, *rest))])


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="where messages are posted to")],
    events: Annotated[
        list[WebhookEvent] | None, typer.Option("--event", help="may be repeated; default: all of them")
    ] = None,
    name: Annotated[str, typer.Option(help="what people tell it apart by")] = "webhook",
    as_json: Json = False,
    data: Data = HERE,
) -> None:
    """Make a webhook and show its signing secret, this once."""
    body: dict[str, Any] = {"url": url, "name": name}
    body |= {"event_types": [event.value for event in events]} if events else {}
    with client(data) as api:
        made = ask(api, "POST", ROUTE, json=body)
    if as_json:
        print(json.dumps(made))
        return
    print(made["signing_secret"])
    console.print(f"{made['id']} for {', '.join(made['event_types'])}; the secret is not shown again", highlight=False)


@app.command("list")
def list_webhooks(limit: int = 20, after: str | None = None, as_json: Json = False, data: Data = HERE) -> None:
    """The newest webhooks, those of single jobs among them; --after goes on behind one."""
    with client(data) as api:
        page = ask(api, "GET", ROUTE, params={"limit": limit} | ({"after": after} if after else {}))
    if as_json:
        print(json.dumps(page))
        return
    rows = [
        (hook["id"], hook["name"], hook["url"], hook["disabled_reason"] or "on", _short(hook["event_types"]))
        for hook in page["data"]
    ]
    _show(("id", "name", "address", "state", "events"), rows, page, "meteor webhooks list")


@app.command()
def deliveries(
    webhook: Webhook,
    state: Annotated[str | None, typer.Option(help="pending, delivered or failed")] = None,
    limit: int = 20,
    after: str | None = None,
    as_json: Json = False,
    data: Data = HERE,
) -> None:
    """What a webhook was told, the newest first, and how that went."""
    asked = {"limit": limit} | ({"after": after} if after else {}) | ({"state": state} if state else {})
    with client(data) as api:
        page = ask(api, "GET", _route(webhook, "deliveries"), params=asked)
    if as_json:
        print(json.dumps(page))
        return
    rows = [
        (one["id"], _when(one["created_at"]), one["event_type"], one["state"], str(one["attempts"]), _last(one["log"]))
        for one in page["data"]
    ]
    titles = ("id", "of", "event", "state", "attempts", "last answer")
    _show(titles, rows, page, f"meteor webhooks deliveries {webhook}")


@app.command()
def replay(webhook: Webhook, delivery: str, as_json: Json = False, data: Data = HERE) -> None:
    """Send something once more, under its old id."""
    with client(data) as api:
        answer = ask(api, "POST", _route(webhook, "deliveries", delivery, "replay"))
    print(json.dumps(answer)) if as_json else console.print(f"{delivery} is sent again", highlight=False)


@app.command("test")
def try_out(
    webhook: Webhook, event: WebhookEvent = WebhookEvent.SUCCEEDED, as_json: Json = False, data: Data = HERE
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
def enable(webhook: Webhook, as_json: Json = False, data: Data = HERE) -> None:
    """Tell a webhook things again that was disabled or answered 410."""
    with client(data) as api:
        answer = ask(api, "PATCH", _route(webhook), json={"disabled": False})
    print(json.dumps(answer)) if as_json else console.print(f"{webhook} is on", highlight=False)


@app.command()
def delete(
    webhooks: Annotated[list[str], typer.Argument(help="ids, as `meteor webhooks list` shows them")],
    as_json: Json = False,
    data: Data = HERE,
) -> None:
    """Remove webhooks and what they were told."""
    with client(data) as api:
        for webhook in webhooks:
            answer = ask(api, "DELETE", _route(webhook))
            print(json.dumps(answer)) if as_json else console.print(f"{webhook} deleted", highlight=False)


def _show(titles: tuple[str, ...], rows: list[tuple[str, ...]], page: dict[str, Any], command: str) -> None:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        shown.add_column(title, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown, markup=False)
    if page["has_more"]:
        console.print(f"more: {command} --after {page['last_id']}", highlight=False, soft_wrap=True)


def _short(events: list[str]) -> str:
    return "all" if len(events) == len(WebhookEvent) else " ".join(events)


def _last(log: list[dict[str, Any]]) -> str:
    if not log:
        return "none yet"
    return str(log[-1]["status"] or log[-1]["error"])


def _when(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
