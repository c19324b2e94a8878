"""`meteor experiments ...`: variants of one job, compared on the same test questions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.cli.attached import attached, resolved
from services.cli.client import PAUSED_EXIT, JsonObject, Refused, Resource, client, job_body, read_json
from services.cli.options import DEFAULT_DATA, Data, JobBody, Json
from services.cli.output import Columns
from services.cli.verbs import Noun
from services.cli.watch import Follower, how_to_continue
from shared.contracts.experiments import ExperimentObject
from shared.contracts.report_part import Triple
from shared.contracts.views import Listed
from shared.platform.terminal import console, emit, say, write
from shared.reporting.markdown import markdown_table
from shared.reporting.tables import TextTable
from shared.reporting.words import label, plain_gain

app = typer.Typer(help="Run several variants of a job and compare them.", no_args_is_help=True)
EXPERIMENTS = Resource("/v1/experiments", ExperimentObject, Listed[ExperimentObject])
HEAD = ["variant", "final model", "dev", "over the first", "test", "over base", "over the first"]
HEAD += ["calls paid", "lesson tokens"]
LISTED: Columns[ExperimentObject] = {
    "experiment": lambda experiment: experiment.id,
    "variants": lambda experiment: ", ".join(f"{variant.name} ({variant.status})" for variant in experiment.variants),
}


@app.command()
def run(
    job: JobBody,
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
    chosen: JsonObject = {"preset": preset} if variants is None else {"variants": read_json(variants)}
    body = resolved(job_body(job), job.parent)
    ended = []
    with client(data) as api:
        body = attached(api, body) | {"training_file": api.upload(rows).id}
        experiment = api.ask(ExperimentObject, "POST", EXPERIMENTS.route, {"job": body, **chosen})
        if not as_json:
            say(f"experiment {experiment.id}")
        for variant in experiment.variants:
            follower = Follower(api, variant.job_id)
            if as_json:
                ended.append(follower.emit_lines())
            else:
                say(f"variant {variant.name}: job {variant.job_id}", "bold")
                ended.append(follower.show(console))
        experiment = api.get(EXPERIMENTS, experiment.id)
    emit(experiment, as_json, comparison_table(experiment))
    for job_object in ended:
        if job_object.status == "paused" and not as_json:
            say(how_to_continue(job_object))
    statuses = {job_object.status for job_object in ended}
    if statuses != {"succeeded"}:
        raise typer.Exit(PAUSED_EXIT if statuses <= {"succeeded", "paused"} else 1)


@app.command()
def show(
    experiment: str,
    markdown: Annotated[bool, typer.Option("--markdown", help="the table as Markdown, for documents")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """The comparison of the variants that have ended."""
    with client(data) as api:
        compared = api.get(EXPERIMENTS, experiment)
    if markdown and not as_json:
        write(markdown_table(TextTable(HEAD, _rows(compared))) + "\n")
    else:
        emit(compared, as_json, comparison_table(compared))


def comparison_table(experiment: ExperimentObject) -> Table:
    table = Table(title=f"Experiment {experiment.id}: choose by dev, test tells what the choice is worth")
    for column in HEAD:
        table.add_column(column, overflow="fold")
    for row in _rows(experiment):
        table.add_row(*row)
    return table


def _rows(experiment: ExperimentObject) -> list[list[str]]:
    return [
        [
            row.variant,
            label(row.final),
            f"{Triple(*row.dev):.3f}" if row.dev else "",
            plain_gain(Triple(*row.dev_gain_over_first)) if row.dev_gain_over_first else "",
            f"{Triple(*row.value):.3f}",
            plain_gain(Triple(*row.gain_over_base)) if row.gain_over_base else "",
            plain_gain(Triple(*row.gain_over_first)) if row.gain_over_first else "",
            str(row.teacher_calls),
            str(row.lesson_tokens),
        ]
        for row in experiment.comparison
    ]


def variant_lines(experiment: ExperimentObject) -> str:
    return "\n".join(f"{variant.name}: job {variant.job_id} {variant.status}" for variant in experiment.variants)


noun = Noun(app, "meteor experiments", EXPERIMENTS, LISTED, "an id, as `meteor experiments list` shows it")
noun.add_list("The newest experiments.")
noun.add_act("cancel", "Stop all variants that have not ended; what they finished is kept.", variant_lines)
