"""`meteor demo`: prepare the models, start everything, run one job through the three phases, show what it gained."""

import json
import shlex
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from services.cli.attached import attached, database, resolved
from services.cli.client import JOBS, PAUSED_EXIT, ApiClient, JsonObject, api_key
from services.cli.report_screen import show_report
from services.cli.watch import Follower, how_to_continue
from services.local.commands.start_stop import DEFAULT_DATA, Data, bring_up
from services.meteor.time_told import TimeTold, in_a_line
from shared.contracts.grader_kinds import SqlResultGrader
from shared.contracts.jobs import JobObject
from shared.contracts.report import Report, read_report
from shared.grading.sql import QueryFailed, query_of, run
from shared.platform import run_state
from shared.platform.http_client import is_near, sync_client
from shared.platform.terminal import console, say

if TYPE_CHECKING:
    from openai import OpenAI

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUESTIONS, SHOWN_ROWS = 3, 6
SUMMARY = "demo.json"  # in the data folder: what the last demo took and had said of its time


def demo(
    domain: Annotated[str, typer.Argument(help="bookshop, shell or machine-learning")] = "bookshop",
    data: Data = DEFAULT_DATA,
) -> None:
    """Start everything, run one small job through all three phases on real models, show what it gained."""
    bring_up(data)
    raise typer.Exit(run_demo(run_state.api_url(data), api_key(data), domain, data))


def run_demo(api_url: str, key: str, domain: str, data: Path) -> int:
    """On services that already run. Returns the exit code: 0 when the job succeeded, 3 when it is paused."""
    rows, body = EXAMPLES / f"{domain}.jsonl", EXAMPLES / f"{domain}.job.json"
    if not rows.exists() or not body.exists():
        known = ", ".join(sorted(path.name.removesuffix(".job.json") for path in EXAMPLES.glob("*.job.json")))
        say(f"no example domain {domain!r}; there are: {known}", style="red")
        return 2
    started = time.monotonic()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with ApiClient(sync_client(api_url, headers, timeout=60)) as api:
        job_id = _earlier_job(api, domain) or _post_job(api, rows, json.loads(body.read_text()))
        told = TimeTold()
        job = Follower(api, job_id, on_look=told).show(console)
        told.end()
        if job.status == "paused":
            say(how_to_continue(job))
            say("then run the demo again: it follows this job to its end")
            return PAUSED_EXIT
        if job.status != "succeeded":
            error = f"{job.error.message} ({job.error.code})" if job.error else ""
            say(f"job {job.status}: {error}", style="red")
            return 1
        report = read_report(api.answer("GET", JOBS.path(job_id, "report")).json())
    show_report(console, report)
    from openai import DefaultHttpx2Client, OpenAI  # here: it takes a second to load

    http = DefaultHttpx2Client(trust_env=not is_near(api_url))
    client = OpenAI(base_url=f"{api_url}/v1", api_key=key or "none", timeout=60, http_client=http)
    _show_side_by_side(client, job, report, rows)
    seconds = time.monotonic() - started
    _show_next_steps(api_url, job, report, data, seconds, _questions(job, report, rows)[0][0])
    _sum_up(data, job, seconds, told)
    return 0


def _earlier_job(api: ApiClient, domain: str) -> str | None:
    """A second demo shows the first one's result, or continues to follow it, instead of starting again."""
    jobs = api.page(JOBS, 20, None, **{"metadata[example]": domain}).data
    return next((job.id for job in jobs if job.status not in ("failed", "cancelled")), None)


def _post_job(api: ApiClient, rows: Path, body: JsonObject) -> str:
    stored = api.upload(rows)
    say(f"{rows.name}: {stored.n_rows} rows, split into {stored.splits}")
    body = attached(api, resolved(body, rows.parent)) | {"training_file": stored.id}
    return api.ask(JobObject, "POST", JOBS.route, body).id


def _show_side_by_side(client: "OpenAI", job: JobObject, report: Report, rows: Path) -> None:
    """Three questions of the test split, asked through the public chat route just now; queries with what they return."""
    if job.fine_tuned_model is None:
        say("No phase helped on dev, so there is no new model to ask.")
        return
    table = Table(title="The same questions, asked just now", show_lines=True)
    for column in ("question", "reference", job.model, job.fine_tuned_model):
        table.add_column(column, overflow="fold")
    limit = job.distillation.answer_tokens
    with _shown(job, rows.with_suffix(".sql")) as shown:
        for question, reference in _questions(job, report, rows):
            say(f"asking both models: {question}")
            answers = [_ask(client, model, question, limit) for model in (job.model, job.fine_tuned_model)]
            table.add_row(question, *map(shown, (reference or "", *answers)))
    console.print(table, markup=False)


def _questions(job: JobObject, report: Report, rows: Path) -> list[tuple[str, str | None]]:
    """Those that the example names in its metadata, else the report's first."""
    wanted = (job.metadata or {}).get("show", "").split()
    if not wanted:
        return [(sample.question, sample.reference) for sample in report.samples[:QUESTIONS]]
    by_id = {row["id"]: row for row in map(json.loads, rows.read_text().splitlines())}
    return [(by_id[name]["question"], by_id[name]["reference"]) for name in wanted]


@contextmanager
def _shown(job: JobObject, script: Path) -> Generator[Callable[[str], str]]:
    """How an answer is shown: as it is, or as a query with the rows that it returns."""
    grader = job.distillation.primary_metric
    if not isinstance(grader, SqlResultGrader):
        yield lambda answer: answer
        return
    with database(script) as file:
        yield lambda answer: f"{answer}\n\n{_result(grader, file, answer)}"


def _result(grader: SqlResultGrader, file: Path, answer: str) -> str:
    """The first rows that a query returns, or why it returns none."""
    try:
        rows = run(grader, file, query_of(answer)).rows
    except QueryFailed as error:
        return f"error: {error}"
    more = [f"... {len(rows) - SHOWN_ROWS} more"] if len(rows) > SHOWN_ROWS else []
    return "\n".join(["  ".join(map(str, row)) for row in rows[:SHOWN_ROWS]] + more) or "no rows"


def _ask(client: "OpenAI", model: str, question: str, max_tokens: int) -> str:
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=max_tokens, temperature=0
    )
    return (reply.choices[0].message.content or "").strip()


def _sum_up(data: Path, job: JobObject, seconds: float, told: TimeTold) -> None:
    """How well the time was foretold, said and kept in demo.json. A job that had ended before tells nothing."""
    figures = told.figures()
    if figures is not None:
        say(in_a_line(figures))
    summary = {"job": job.id, "model": job.fine_tuned_model, "seconds": round(seconds, 1), "time_left": figures}
    (data / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")


def _show_next_steps(api_url: str, job: JobObject, report: Report, data: Path, seconds: float, question: str) -> None:
    model, adapter = job.fine_tuned_model or job.model, report.final.adapter
    asked = json.dumps({"model": model, "messages": [{"role": "user", "content": question}]})
    lines = [
        "",
        f"Job {job.id} took {seconds / 60:.1f} minutes in this run.",
        f"Adapter (safetensors): {data / 'serving' / adapter if adapter else 'none, no phase helped'}",
        f"Report: curl {api_url}/v1/distillation/jobs/{job.id}/report",
        f"All jobs in a browser: {api_url}/",
        "Talk to it:",
        f"  curl {api_url}/v1/chat/completions -H 'content-type: application/json' \\",
        f"    -d {shlex.quote(asked)}",
        "Stop everything: make down",
    ]
    say("\n".join(lines))
