"""`meteor providers learned|test|forget`: what strong models can do, by the API. `add`, `list` and `remove` act on this machine."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from services.cli.client import Resource, client
from services.cli.options import DEFAULT_DATA, Data, Json
from shared.contracts.providers import ProviderObject, ProviderReport
from shared.contracts.views import Listed
from shared.platform.terminal import emit, say

app = typer.Typer(no_args_is_help=True)
PROVIDERS = Resource("/v1/providers", ProviderObject, Listed[ProviderObject])
TEST_S = 660
Name = Annotated[str, typer.Argument(help="a provider's name, as jobs name it")]
YES = {True: "yes", False: "no", None: "not found out"}


@app.command()
def learned(as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """The providers that run, and what was learned of each: how its requests are changed, and the room for its reasoning."""
    with client(data) as api:
        page = api.ask(PROVIDERS.page, "GET", PROVIDERS.route)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "model", "address", "what is changed in its requests"):
        table.add_column(title, overflow="fold")
    for provider in page.data:
        changes = [f"{change.field}: {change.how}" for change in provider.changed]
        changes += [f"{provider.room} tokens of room for reasoning"] if provider.room else []
        changes += [f"a context of {provider.context} tokens"] if provider.context else []
        table.add_row(*(Text(cell) for cell in (provider.name, provider.model, provider.address, "; ".join(changes))))
    emit(page, as_json, table)


@app.command("test")
def probe(name: Name, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Ask a provider a few cheap questions and print what it can do. Exit code 1 when it does not answer."""
    with client(data) as api:
        report = api.ask(ProviderReport, "POST", PROVIDERS.path(name, "test"), timeout=TEST_S)
    emit(report, as_json, sheet(report))
    if not as_json:
        for note in report.notes:
            say(note, style="yellow")
        if report.error:
            say(f"{report.error.code}: {report.error.message}", style="red")
    if not report.answers:
        raise typer.Exit(1)


@app.command()
def forget(name: Name, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Forget what was learned of a provider, as after it has changed. The next calls find it out anew."""
    with client(data) as api:
        provider = api.ask(ProviderObject, "DELETE", PROVIDERS.path(name, "learned"))
    emit(provider, as_json, f"{name}: forgotten")


def sheet(report: ProviderReport) -> Table:
    """What the test found out, one line each."""
    reasoning = "none seen"
    if report.reasoning_tokens or report.room:
        reasoning = f"yes; {report.room} tokens of room beside the answer" if report.room else "yes"
    lines = {
        "model": f"{report.model} at {report.address}",
        "answers": f"yes, in {report.seconds} s" if report.answers else "no",
        "in its list of models": YES[report.listed],
        "changed in requests": "; ".join(f"{change.field}: {change.how}" for change in report.changed) or "nothing",
        "structured output": report.structured or YES[None],
        "reasoning": reasoning,
        "system role": report.system_role or YES[None],
        "seed": report.seed or YES[None],
        "log-probabilities": YES[report.logprobs],
        "batch API": YES[report.batch],
        "context": f"{report.context} tokens" if report.context else "not told",
        "rate limits": "; ".join(f"{header}: {value}" for header, value in report.limits.items()) or "not told",
        "says what it used": YES[report.counts_tokens if report.answers else None],
        "this test": f"{report.calls} calls, {report.input_tokens} + {report.output_tokens} tokens, {report.usd:.6f} USD",
    }
    table = Table(box=None, show_header=False, pad_edge=False, title=report.name, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for title, text in lines.items():
        table.add_row(title, Text(text))
    return table
