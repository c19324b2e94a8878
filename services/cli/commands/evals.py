"""`meteor evals ...`: graders that belong together, and models that are measured by them."""

import time
from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import ApiClient, JsonObject, Refused, Resource, client, job_body
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit
from services.cli.output import Columns, emit_page, minute, one_line
from services.cli.verbs import Noun
from shared.contracts.data import Split
from shared.contracts.eval_results import EvalRunObject, OutputItem, RunDeleted
from shared.contracts.evals import EvalDeleted, EvalObject
from shared.contracts.views import Listed
from shared.platform.terminal import console, emit

app = typer.Typer(help="Evals: make, list, run, look at their rows.", no_args_is_help=True)
EVALS = Resource("/v1/evals", EvalObject, Listed[EvalObject])
COLUMNS: Columns[EvalObject] = {
    "eval": lambda one: one.id,
    "name": lambda one: one.name,
    "criteria": lambda one: " ".join(criterion["name"] for criterion in one.testing_criteria),
    "made": lambda one: minute(one.created_at),
}
RUNS: Columns[EvalRunObject] = {
    "run": lambda run: run.id,
    "model": lambda run: run.model,
    "status": lambda run: run.status,
    "passed": lambda run: f"{run.result_counts.passed} of {run.result_counts.total}",
    "errors": lambda run: run.result_counts.errored or None,
    "made": lambda run: minute(run.created_at),
    "why": lambda run: run.error.message if run.error else run.status_reason,
}
ROWS: Columns[OutputItem] = {
    "row": lambda row: row.id,
    "status": lambda row: row.status,
    "answer": lambda row: one_line(row.sample.output[0].content) if row.sample.output else None,
    "scores": lambda row: " ".join(f"{one.name} {one.score:g}" for one in row.results),
    "why": lambda row: (
        row.sample.error.message if row.sample.error else next((r.error for r in row.results if r.error), None)
    ),
}
ENDED = ("completed", "failed", "canceled")
LOOK_S = 1.0
Eval = Annotated[str, typer.Argument(help="an id, as `meteor evals list` shows it")]
Run = Annotated[str, typer.Argument(help="an id, as `meteor evals runs` shows it")]


@app.command()
def create(
    body: Annotated[Path, typer.Argument(help="a JSON file with data_source_config and testing_criteria")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make an eval; nothing is measured yet."""
    with client(data) as api:
        made = api.ask(EvalObject, "POST", EVALS.route, job_body(body))
    emit(made, as_json, made.id)


@app.command()
def rename(eval_id: Eval, name: str, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Give an eval another name."""
    with client(data) as api:
        made = api.ask(EvalObject, "POST", EVALS.path(eval_id), {"name": name})
    emit(made, as_json, f"{eval_id} is called {made.name}")


@app.command()
def delete(eval_id: Eval, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Delete an eval with its runs."""
    with client(data) as api:
        gone = api.ask(EvalDeleted, "DELETE", EVALS.path(eval_id))
    emit(gone, as_json, f"{eval_id} deleted")


@app.command()
def run(
    eval_id: Eval,
    model: Annotated[str, typer.Argument(help="a base, an alias, alias@version, or a configured provider")],
    rows: Annotated[Path | None, typer.Option("--rows", help="a file of items, uploaded first")] = None,
    file: Annotated[str | None, typer.Option("--file", help="the id of an uploaded file")] = None,
    split: Annotated[Split | None, typer.Option(help="of a dataset, this split alone")] = None,
    usd: Annotated[float | None, typer.Option(help="what the run may cost at most")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Measure a model and wait for the result. What is asked are the items' messages, or their question."""
    if (rows is None) == (file is None):
        raise Refused("say what is asked: --rows FILE, or --file ID")
    with client(data) as api:
        source: JsonObject = {"type": "file_id", "id": api.upload(rows, purpose="evals").id if rows else file}
        source |= {"split": split.value} if split else {}
        body: JsonObject = {"data_source": {"type": "completions", "model": model, "source": source}}
        if usd is not None:
            body["budget"] = {"max_usd": usd}
        made = until_ended(api, eval_id, api.ask(EvalRunObject, "POST", EVALS.path(eval_id, "runs"), body))
    emit(made, as_json, told(made))
    if made.status != "completed":
        raise Refused(f"the run is {made.status}: {made.error.message if made.error else made.status_reason or ''}")


def until_ended(api: ApiClient, eval_id: str, made: EvalRunObject) -> EvalRunObject:
    with console.status("in the queue") as status:  # shows nothing where there is no terminal
        while made.status not in ENDED:
            waits = f"; waits for {made.status_reason}" if made.status_reason else ""
            status.update(f"{made.status}: {made.progress.percent:.0f} %{waits}")
            time.sleep(LOOK_S)
            made = api.ask(EvalRunObject, "GET", EVALS.path(eval_id, "runs", made.id))
    return made


def told(run: EvalRunObject) -> str:
    counts = run.result_counts
    lines = [
        f"{run.id}: {run.model or 'given answers'}: {counts.passed} of {counts.total} pass, {counts.errored} errors"
    ]
    lines += [
        f"{one.testing_criteria}: {one.passed} pass, mean score {run.mean_scores.get(one.testing_criteria, 0):.3f}"
        for one in run.per_testing_criteria_results
    ]
    return "\n".join(lines)


@app.command()
def runs(
    eval_id: Eval, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The runs of an eval, the newest first."""
    of_eval = Resource(EVALS.path(eval_id, "runs"), EvalRunObject, Listed[EvalRunObject])
    with client(data) as api:
        page = api.page(of_eval, limit, after, order="desc")
    emit_page(page, RUNS, as_json, f"meteor evals runs {eval_id}")


@app.command()
def result(eval_id: Eval, run_id: Run, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """The figures of a run."""
    with client(data) as api:
        made = api.ask(EvalRunObject, "GET", EVALS.path(eval_id, "runs", run_id))
    emit(made, as_json, f"{made.status}\n{told(made)}")


@app.command("rows")
def rows_of(
    eval_id: Eval,
    run_id: Run,
    status: Annotated[str | None, typer.Option(help="pass, fail or error")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """The rows of a run, in their order: answers and scores."""
    of_run = Resource(EVALS.path(eval_id, "runs", run_id, "output_items"), OutputItem, Listed[OutputItem])
    with client(data) as api:
        page = api.page(of_run, limit, after, status=status)
    emit_page(page, ROWS, as_json, f"meteor evals rows {eval_id} {run_id}" + (f" --status {status}" if status else ""))


@app.command()
def row(eval_id: Eval, run_id: Run, row_id: str, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """One row of a run, whole."""
    with client(data) as api:
        made = api.ask(OutputItem, "GET", EVALS.path(eval_id, "runs", run_id, "output_items", row_id))
    emit(made, as_json, made.model_dump_json(indent=2))


@app.command()
def cancel(eval_id: Eval, run_id: Run, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Stop a run."""
    with client(data) as api:
        made = api.ask(EvalRunObject, "POST", EVALS.path(eval_id, "runs", run_id, "cancel"))
    emit(made, as_json, f"{run_id} is {made.status}")


@app.command("delete-run")
def delete_run(eval_id: Eval, run_id: Run, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Delete a run with its rows."""
    with client(data) as api:
        gone = api.ask(RunDeleted, "DELETE", EVALS.path(eval_id, "runs", run_id))
    emit(gone, as_json, f"{run_id} deleted")


noun = Noun(app, "meteor evals", EVALS, COLUMNS, "an id, as `meteor evals list` shows it")
noun.add_list("The evals, the oldest first.")
noun.add_show("One eval: its graders and the schema of its items.")
