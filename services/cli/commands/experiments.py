"""`meteor experiments ...`: variants of one job, compared on the same test questions."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from services.cli.client import (
    DEFAULT_DATA,
    PAUSED_EXIT,
    Data,
    Json,
    Refused,
    ask,
    body_of,
    client,
    json_of,
    upload,
)
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, page_of, show_page
from services.cli.watch import Follower, how_to_go_on
from shared.contracts.report import Triple
from shared.platform.terminal import make_console
from shared.reporting.words import label, plain_gain

app = typer.Typer(help="Run several variants of a job and compare them.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/experiments"
COLUMNS = ("variant", "final model", "dev", "over the first", "test", "over base", "over the first")
COLUMNS += ("calls paid", "lesson tokens")
LISTED: Columns = {
    "experiment": lambda found: found["id"],
    "variants": lambda found: ", ".join(f"{one['name']} ({one['status']})" for one in found["variants"]),
}
Markdown = Annotated[bool, typer.Option("--markdown", help="the table as Markdown, for documents")]


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="a job's body as JSON, such as examples/shell.job.json")],
    rows: Annotated[Path, typer.Option("--rows", help="the dataset, JSONL")],
    preset: Annotated[str | None, typer.Option(help="ablation, strategies, teachers or students")] = None,
    variants: Annotated[Path | None, typer.Option(help='JSON: [{"name": ..., "changes": {...}}, ...]')] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Run the variants, one after the other; what they have in common is done once. Exit code 1 if one failed,
    3 if one is paused."""
    if (preset is None) == (variants is None):
        raise Refused("say what to run: --preset or --variants")
    chosen = {"preset": preset} if preset else {"variants": json_of(variants)} if variants else {}
    body: dict[str, Any] = {"job": body_of(job)} | chosen
    ended = []
    with client(data) as api:
        body["job"]["training_file"] = upload(api, rows)["id"]
        made = ask(api, "POST", ROUTE, json=body)
        _say(f"experiment {made['id']}", as_json)
        for variant in made["variants"]:
            _say(f"variant {variant['name']}: job {variant['job_id']}", as_json, "bold")
            follower = Follower(api, variant["job_id"])
            ended.append(follower.tell_lines() if as_json else follower.show(console))
        found = ask(api, "GET", f"{ROUTE}/{made['id']}")
    if as_json:
        print(json.dumps(found))
    else:
        _show(found)
    for job_object in ended:
        if job_object["status"] == "paused":
            _say(how_to_go_on(job_object), as_json)
    statuses = {job_object["status"] for job_object in ended}
    if statuses != {"succeeded"}:
        raise typer.Exit(PAUSED_EXIT if statuses <= {"succeeded", "paused"} else 1)


def _say(text: str, as_json: bool, style: str | None = None) -> None:
    if not as_json:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@app.command("list")
def list_experiments(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest experiments."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, LISTED, as_json, "meteor experiments list")


@app.command()
def show(experiment: str, markdown: Markdown = False, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """The comparison of the variants that have ended."""
    with client(data) as api:
        found = ask(api, "GET", _route(experiment))
    if as_json:
        print(json.dumps(found))
    elif markdown:
        lines = [COLUMNS, ["---"] * len(COLUMNS), *_lines(found)]
        print("\n".join("| " + " | ".join(line) + " |" for line in lines))
    else:
        _show(found)


@app.command()
def cancel(experiment: str, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Stop all variants that have not ended; what they finished is kept."""
    with client(data) as api:
        found = ask(api, "POST", _route(experiment) + "/cancel")
    if as_json:
        print(json.dumps(found))
        return
    for variant in found["variants"]:
        _say(f"{variant['name']}: job {variant['job_id']} {variant['status']}", as_json)


def _route(experiment: str) -> str:
    return f"{ROUTE}/{quote(experiment, safe='')}"


def _show(found: dict[str, Any]) -> None:
    table = Table(title=f"Experiment {found['id']}: choose by dev, test tells what the choice is worth")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for line in _lines(found):
        table.add_row(*line)
    console.print(table)


def _lines(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            row["variant"],
            label(row["final"]),
            f"{Triple(*row['dev']):.3f}" if row.get("dev") else "",
            plain_gain(Triple(*row["dev_gain_over_first"])) if row.get("dev_gain_over_first") else "",
            f"{Triple(*row['value']):.3f}",
            plain_gain(Triple(*row["gain_over_base"])),
            plain_gain(Triple(*row["gain_over_first"])) if row["gain_over_first"] else "",
            str(row["teacher_calls"]),
            str(row["lesson_tokens"]),
        ]
        for row in found["comparison"]
    ]
