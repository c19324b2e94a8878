"""`make demo`: prepare the models, start everything, run one job through the three phases, show what it gained."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from openai import OpenAI
from rich.console import Console
from rich.table import Table

from services.cli.client import api_key
from services.cli.report_screen import show_report
from services.cli.watch import Follower, how_to_go_on
from services.local.commands.start_stop import DEFAULT_DATA, Data, bring_up
from shared.contracts.report import Report, read_report
from shared.platform import run_state
from shared.platform.terminal import make_console

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUESTIONS = 3


console = make_console()


def demo(
    domain: Annotated[str, typer.Argument(help="shell or machine-learning")] = "shell", data: Data = DEFAULT_DATA
) -> None:
    """Start everything, run one small job through all three phases on real models, show what it gained."""
    bring_up(data)
    raise typer.Exit(run_demo(console, run_state.api_url(data), api_key(data), domain, data))


def run_demo(console: Console, api_url: str, api_key: str, domain: str, data: Path) -> int:
    """On services that already run. Returns the exit code: 0 when the job succeeded, 3 when it is paused."""
    rows, body = EXAMPLES / f"{domain}.jsonl", EXAMPLES / f"{domain}.job.json"
    if not rows.exists() or not body.exists():
        known = ", ".join(sorted(path.name.removesuffix(".job.json") for path in EXAMPLES.glob("*.job.json")))
        console.print(f"no example domain {domain!r}; there are: {known}", style="red")
        return 2
    started = time.monotonic()
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=api_url, headers=headers, timeout=60) as client:
        job_id = _ended_job(client, domain) or _post_job(console, client, rows, json.loads(body.read_text()))
        job = Follower(client, job_id).show(console)
        if job["status"] == "paused":
            console.print(how_to_go_on(job), markup=False, highlight=False, soft_wrap=True)
            console.print("then run the demo again: it follows this job to its end")
            return 3
        if job["status"] != "succeeded":
            error = job["error"] or {}
            console.print(f"job {job['status']}: {error.get('message', '')} ({error.get('code', '')})", style="red")
            return 1
        report = read_report(client.get(f"/v1/distillation/jobs/{job_id}/report").raise_for_status().json())
    show_report(console, report)
    _show_side_by_side(console, OpenAI(base_url=f"{api_url}/v1", api_key=api_key or "none"), job, report)
    _show_next_steps(console, api_url, job, report, data, time.monotonic() - started)
    return 0


def _ended_job(client: httpx.Client, domain: str) -> str | None:
    """A second demo shows the first one's result, or goes on watching it, instead of starting again."""
    query = {"metadata[example]": domain, "limit": 20}
    jobs = client.get("/v1/distillation/jobs", params=query).raise_for_status().json()["data"]
    return next((job["id"] for job in jobs if job["status"] not in ("failed", "cancelled")), None)


def _post_job(console: Console, client: httpx.Client, rows: Path, body: dict[str, Any]) -> str:
    with rows.open("rb") as file:
        upload = client.post("/v1/files", files={"file": (rows.name, file)}, data={"purpose": "fine-tune"})
    stored = upload.raise_for_status().json()
    console.print(f"{rows.name}: {stored['n_rows']} rows, split into {stored['splits']}", markup=False)
    answer = client.post("/v1/distillation/jobs", json=body | {"training_file": stored["id"]})
    if answer.is_client_error:
        raise SystemExit(f"the job was refused: {answer.json()['error']['message']}")
    return answer.raise_for_status().json()["id"]


def _show_side_by_side(console: Console, client: OpenAI, job: dict[str, Any], report: Report) -> None:
    """Three questions of the test split, asked through the public chat route just now."""
    tuned = job["fine_tuned_model"]
    if tuned is None:
        console.print("No phase helped on dev, so there is no new model to ask.")
        return
    table = Table(title="The same questions, asked just now", show_lines=True)
    for column in ("question", "reference", job["model"], tuned):
        table.add_column(column, overflow="fold")
    limit = job["distillation"]["answer_tokens"]
    for sample in report.samples[:QUESTIONS]:
        console.print(f"asking both models: {sample.question}", markup=False, highlight=False, soft_wrap=True)
        answers = [_ask(client, model, sample.question, limit) for model in (job["model"], tuned)]
        table.add_row(sample.question, sample.reference, *answers)
    console.print(table, markup=False)


def _ask(client: OpenAI, model: str, question: str, max_tokens: int) -> str:
    messages: Any = [{"role": "user", "content": question}]
    reply = client.chat.completions.create(model=model, messages=messages, max_tokens=max_tokens, temperature=0)
    return (reply.choices[0].message.content or "").strip()


def _show_next_steps(
    console: Console, api_url: str, job: dict[str, Any], report: Report, data: Path, seconds: float
) -> None:
    model, adapter = job["fine_tuned_model"] or job["model"], report.final.adapter
    lines = [
        "",
        f"Job {job['id']} took {seconds / 60:.1f} minutes in this run.",
        f"Adapter (safetensors): {data / 'serving' / adapter if adapter else 'none, no phase helped'}",
        f"Report: curl {api_url}/v1/distillation/jobs/{job['id']}/report",
        f"All jobs in a browser: {api_url}/",
        "Talk to it:",
        f"  curl {api_url}/v1/chat/completions -H 'content-type: application/json' \\",
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Count the lines of notes.txt."}}]}}\'',
        "Stop everything: make down",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
