"""`meteor canary ...`: a version that is tried beside the one that its alias serves."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from services.cli.client import JsonObject, Refused, Resource, client, read_json
from services.cli.commands.models import MODELS
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit, given
from services.cli.output import Columns, emit_page, minute
from shared.contracts.canary import CanaryDeleted, CanaryObject, CanaryStanding, Metric, Per
from shared.contracts.notices import NoticeObject
from shared.contracts.views import Listed
from shared.platform.terminal import emit

app = typer.Typer(help="Try a version on a share of the conversations before it is served.", no_args_is_help=True)
Alias = Annotated[str, typer.Argument(help="the alias that is served")]
EVENTS: Columns[NoticeObject] = {
    "at": lambda event: minute(event.created_at),
    "event": lambda event: event.type,
    "what": lambda event: event.message,
}
PERCENT = 10.0


@app.command("set")
def set_canary(
    alias: Alias,
    version: Annotated[int, typer.Argument(help="the version's number", min=1)],
    percent: Annotated[float | None, typer.Option(help="of conversations; default: 10", min=0, max=100)] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="copies only: the served version answers everybody")] = False,
    metric: Annotated[Metric | None, typer.Option(help="the canary decides by this metric")] = None,
    limit_ms: Annotated[float | None, typer.Option(help="of latency_ms: a slower answer counts")] = None,
    grader: Annotated[Path | None, typer.Option(help="of grader: a JSON file with a grader")] = None,
    per: Annotated[Per | None, typer.Option(help="what counts: each user once a step, or answers")] = None,
    user_key: Annotated[str | None, typer.Option(help="the key of metadata that names the user")] = None,
    margin: Annotated[float | None, typer.Option(help="a loss that is larger by this much is no harm yet")] = None,
    alpha: Annotated[float | None, typer.Option(help="chance that a version without harm returns")] = None,
    least: Annotated[
        int | None, typer.Option("--min", help="users, or answers, of each version before a step ends")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", help="of the canary, at which the last step ends")] = None,
    until: Annotated[int | None, typer.Option(help="when it ends, in Unix seconds")] = None,
    steps: Annotated[str | None, typer.Option(help="rising percentages, such as 5,25,50")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="serve the version if it does no harm")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Try a version, in place of the present canary. The canary ends when the alias moves; with a metric it decides by itself."""
    options = given(
        limit_ms=limit_ms,
        grader=None if grader is None else read_json(grader),
        per=None if per is None else per.value,
        user_key=user_key,
        margin=margin,
        alpha=alpha,
        min_requests=least,
        max_requests=most,
        until=until,
    )
    if options and metric is None:
        raise Refused(f"{', '.join(options)}: add --metric, by which the canary decides")
    body: JsonObject = {"version": version, "shadow": shadow, "promote": promote}
    body |= given(percent=percent, steps=None if steps is None else _percentages(steps))
    body |= {} if metric is None else {"goal": {"metric": metric.value} | options}
    if percent is None and steps is None and (metric is None or shadow):
        body["percent"] = PERCENT
    with client(data) as api:
        canary = api.ask(CanaryObject, "POST", MODELS.path(alias, "canary"), body)
    emit(canary, as_json, sentence(canary))


def _percentages(text: str) -> list[JsonValue]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise Refused(f"--steps {text}: give numbers separated by commas, such as 5,25,50") from None


@app.command()
def show(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """What is tried now, and how it stands."""
    with client(data) as api:
        canary = api.ask(CanaryObject, "GET", MODELS.path(alias, "canary"))
    emit(canary, as_json, sentence(canary))


@app.command()
def events(
    alias: Alias, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """What happened to the canaries of an alias, the newest first; also to those that have ended."""
    of_alias = Resource(MODELS.path(alias, "canary", "events"), NoticeObject, Listed[NoticeObject])
    with client(data) as api:
        page = api.page(of_alias, limit, after)
    emit_page(page, EVENTS, as_json, f"meteor canary events {alias}")


@app.command()
def end(alias: Alias, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """End the canary: only the served version answers. `meteor models promote ALIAS@VERSION` serves the other one to all."""
    with client(data) as api:
        deleted = api.ask(CanaryDeleted, "DELETE", MODELS.path(alias, "canary"))
    emit(deleted, as_json, f"{alias}: no canary any more")


def sentence(canary: CanaryObject) -> str:
    share, tried = f"{canary.percent:g} % of conversations", f"{canary.alias}@{canary.version}"
    what = f"{share} are copied to {tried}" if canary.shadow else f"{tried} answers {share}"
    lines = [f"{canary.alias}@{canary.served} is served; {what}"]
    if canary.goal is not None and canary.standing is not None:
        lines += [
            f"by {canary.goal.metric.value}: step {canary.standing.step} of {len(canary.steps or [])}",
            *_figures(canary.standing),
        ]
    return "\n".join(lines)


def _figures(standing: CanaryStanding) -> list[str]:
    lines = [
        f"{name}: {arm.requests} answers" + ("" if arm.loss is None else f", loss {arm.loss:.4f}")
        for name, arm in (("served", standing.served), ("canary", standing.canary))
    ]
    if standing.difference is not None:
        lines.append(f"difference: {standing.difference:+.4f} ({standing.low:+.4f} to {standing.high:+.4f})")
    lines.append(f"evidence of harm {standing.harm:.2f}, of gain {standing.gain:.2f}; 1 decides")
    return lines if standing.outcome is None else [*lines, f"outcome: {standing.outcome.value}"]
