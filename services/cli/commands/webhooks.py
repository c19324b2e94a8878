"""`meteor webhooks ...`: who is told of what happens to jobs."""

from typing import Annotated

import typer

from services.cli.client import JsonObject, Refused, Resource, client
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit, given
from services.cli.output import Columns, emit_page, minute
from services.cli.verbs import Noun
from shared.contracts.views import Listed
from shared.contracts.webhooks import DeliveryObject, NewWebhook, WebhookEvent, WebhookObject, WebhookTestResult
from shared.platform.terminal import emit, say

app = typer.Typer(help="Webhooks: make, list, test, look at deliveries.", no_args_is_help=True)
WEBHOOKS = Resource("/v1/webhooks", WebhookObject, Listed[WebhookObject])
COLUMNS: Columns[WebhookObject] = {
    "id": lambda hook: hook.id,
    "name": lambda hook: hook.name,
    "address": lambda hook: hook.url,
    "state": lambda hook: hook.disabled_reason or "on",
    "events": lambda hook: "all" if len(hook.event_types) == len(WebhookEvent) else " ".join(hook.event_types),
}
DELIVERIES: Columns[DeliveryObject] = {
    "id": lambda delivery: delivery.id,
    "of": lambda delivery: minute(delivery.created_at),
    "event": lambda delivery: delivery.event_type,
    "state": lambda delivery: delivery.state,
    "attempts": lambda delivery: delivery.attempts,
    "last answer": lambda delivery: delivery.log[-1].status or delivery.log[-1].error if delivery.log else "none yet",
}
Webhook = Annotated[str, typer.Argument(help="an id, as `meteor webhooks list` shows it")]
Events = Annotated[list[WebhookEvent] | None, typer.Option("--event", help="may be repeated; default: all of them")]


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="where messages are posted to")],
    events: Events = None,
    name: Annotated[str, typer.Option(help="a name for people")] = "webhook",
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a webhook and show its signing secret, this once."""
    body: JsonObject = {"url": url, "name": name}
    if events:
        body["event_types"] = [event.value for event in events]
    with client(data) as api:
        emit_secret(api.ask(NewWebhook, "POST", WEBHOOKS.route, body), as_json)


@app.command()
def change(
    webhook: Webhook,
    url: Annotated[str | None, typer.Option(help="another address")] = None,
    events: Annotated[list[WebhookEvent] | None, typer.Option("--event", help="only these from now on")] = None,
    name: Annotated[str | None, typer.Option(help="another name")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Another address, other events or another name; the secret stays."""
    body = given(url=url or None, event_types=[event.value for event in events or []] or None, name=name or None)
    if not body:
        raise Refused("say what to change: --url, --event or --name")
    with client(data) as api:
        emit(api.change(WEBHOOKS, webhook, body), as_json, f"{webhook} changed")


@app.command()
def rotate(
    webhook: Webhook,
    keep: Annotated[bool, typer.Option("--keep", help="sign with the old secret too, for a day")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give a webhook another signing secret and show it, this once."""
    with client(data) as api:
        body: JsonObject = {"keep_old_secret_active_for_24_hours": keep}
        emit_secret(api.ask(NewWebhook, "POST", WEBHOOKS.path(webhook, "rotate_secret"), body), as_json)


def emit_secret(webhook: NewWebhook, as_json: bool) -> None:
    emit(webhook, as_json, webhook.signing_secret or "")
    if not as_json:
        say(f"{webhook.id} for {', '.join(webhook.event_types)}; the secret is not shown again")


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
    of_webhook = Resource(WEBHOOKS.path(webhook, "deliveries"), DeliveryObject, Listed[DeliveryObject])
    with client(data) as api:
        page = api.page(of_webhook, limit, after, state=state)
    more = f"meteor webhooks deliveries {webhook}" + (f" --state {state}" if state else "")
    emit_page(page, DELIVERIES, as_json, more)


@app.command()
def replay(webhook: Webhook, delivery: str, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Send a delivery again, with the same id."""
    with client(data) as api:
        answer = api.ask(DeliveryObject, "POST", WEBHOOKS.path(webhook, "deliveries", delivery, "replay"))
    emit(answer, as_json, f"{delivery} is sent again")


@app.command("test")
def send_test(
    webhook: Webhook, event: WebhookEvent = WebhookEvent.SUCCEEDED, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """Send one message about a job that does not exist, now. Exit code 1 unless the answer is 2xx."""
    with client(data) as api:
        path = WEBHOOKS.path(webhook, "test")
        result = api.ask(WebhookTestResult, "POST", path, {"event_type": event.value})
    emit(result, as_json, f"it answered {result.status_code}")
    if not 200 <= result.status_code < 300:
        raise typer.Exit(1)


@app.command()
def enable(webhook: Webhook, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Enable a webhook that was disabled or answered 410."""
    with client(data) as api:
        emit(api.change(WEBHOOKS, webhook, {"disabled": False}), as_json, f"{webhook} is on")


@app.command()
def disable(webhook: Webhook, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Disable a webhook until it is enabled again."""
    with client(data) as api:
        emit(api.change(WEBHOOKS, webhook, {"disabled": True}), as_json, f"{webhook} is off")


noun = Noun(app, "meteor webhooks", WEBHOOKS, COLUMNS, "an id, as `meteor webhooks list` shows it")
noun.add_list("The newest webhooks, those of single jobs among them.")
noun.add_show("One webhook, without its secret.")
noun.add_delete("Delete webhooks and their deliveries.")
