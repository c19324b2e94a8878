"""`meteor experiments ...`: variants of one job, compared on the same test questions."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from services.local.jobs_cli import PAUSED_EXIT
from services.local.progress import make_console
from services.local.remote import Data, ask, client, upload
from services.local.watch import Follower, how_to_go_on
from shared.report_words import label, plain_gain, plain_triple

app = typer.Typer(help="Run several variants of a job and compare them.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/experiments"
COLUMNS = ("variant", "final model", "dev", "over the first", "test", "over base", "over the first")
COLUMNS += ("calls paid", "lesson tokens")
Markdown = Annotated[bool, typer.Option("--markdown", help="the table as Markdown, for documents")]


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="a job's body as JSON, such as examples/shell.job.json")],
    rows: Annotated[Path, typer.Option("--rows", help="the dataset, JSONL")],
    preset: Annotated[str | None, typer.Option(help="ablation, strategies, teachers or students")] = None,
    variants: Annotated[Path | None, typer.Option(help='JSON: [{"name": ..., "changes": {...}}, ...]')] = None,
    data: Data = Path(".meteor"),
) -> None:
    """Run the variants, one after the other; what they have in common is done once. Exit code 1 if one failed,
    3 if one is paused."""
    body: dict[str, Any] = {"job": json.loads(job.read_text())}
    body |= {"preset": preset} if preset else {"variants": json.loads(variants.read_text()) if variants else []}
    with client(data) as api:
        body["job"]["training_file"] = upload(api, rows)["id"]
        made = ask(api, "POST", ROUTE, json=body)
        console.print(f"experiment {made['id']}", highlight=False)
        ended = []
        for variant in made["variants"]:
            console.print(f"variant {variant['name']}: job {variant['job_id']}", style="bold", highlight=False)
            ended.append(Follower(api, variant["job_id"]).show(console))
        _show(ask(api, "GET", f"{ROUTE}/{made['id']}"))
    paused = [found for found in ended if found["status"] == "paused"]
    for found in paused:
        console.print(how_to_go_on(found), highlight=False, markup=False, soft_wrap=True)
    statuses = {found["status"] for found in ended}
    if statuses != {"succeeded"}:
        raise typer.Exit(PAUSED_EXIT if statuses <= {"succeeded", "paused"} else 1)


@app.command()
def show(experiment: str, data: Data = Path(".meteor"), markdown: Markdown = False) -> None:
    """The comparison of the variants that have ended."""
    with client(data) as api:
        found = ask(api, "GET", f"{ROUTE}/{experiment}")
    if markdown:
        lines = [COLUMNS, ["---"] * len(COLUMNS), *_lines(found)]
        print("\n".join("| " + " | ".join(line) + " |" for line in lines))
    else:
        _show(found)


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
            plain_triple(row["dev"]) if row.get("dev") else "",
            plain_gain(row["dev_gain_over_first"]) if row.get("dev_gain_over_first") else "",
            plain_triple(row["value"]),
            plain_gain(row["gain_over_base"]),
            plain_gain(row["gain_over_first"]) if row["gain_over_first"] else "",
            str(row["teacher_calls"]),
            str(row["lesson_tokens"]),
        ]
        for row in found["comparison"]
    ]
