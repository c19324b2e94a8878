"""`meteor completions ...`: chats that were stored, as data and as what people may want forgotten."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import JsonObject, Refused, Resource, client
from services.cli.commands.imports import IMPORTS, dataset_of, emit_imported, until_ended
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit, MaskIt, given, pair
from services.cli.output import Columns, emit_page, minute, one_line
from services.cli.verbs import Noun
from shared.contracts.completions import StoredCompletion, StoredMessage
from shared.contracts.errors import UserError
from shared.contracts.forgetting import ForgetResult
from shared.contracts.imports import ImportObject
from shared.contracts.views import Listed
from shared.platform.terminal import emit

app = typer.Typer(help="Chats that were stored: read them, make data of them, forget them.", no_args_is_help=True)
CHATS = Resource("/v1/chat/completions", StoredCompletion, Listed[StoredCompletion])
Completion = Annotated[str, typer.Argument(help="an id, as `meteor completions list` shows it")]
Model = Annotated[str | None, typer.Option(help="an alias or a base, or alias@version")]
Pairs = Annotated[list[str] | None, typer.Option("--metadata", help="only those with KEY=VALUE (may be repeated)")]
COLUMNS: Columns[StoredCompletion] = {
    "completion": lambda chat: chat.id,
    "time": lambda chat: minute(chat.created),
    "version": lambda chat: chat.version,
    "answer": lambda chat: one_line(answer_of(chat)),
}


def answer_of(chat: StoredCompletion) -> str:
    message = chat.choices[0].get("message", {}) if chat.choices else {}
    calls = [call.get("function", {}).get("name") for call in message.get("tool_calls") or []]
    return message.get("content") or f"calls {', '.join(filter(None, calls))}"


@app.command("list")
def list_completions(
    model: Model = None,
    metadata: Pairs = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """The newest stored chats."""
    pairs = dict(pair("--metadata", text) for text in metadata or [])
    filters = {f"metadata[{key}]": value for key, value in pairs.items()}
    with client(data) as api:
        page = api.page(CHATS, limit, after, order="desc", model=model, **filters)
    told = [f"--model {model}"] * bool(model) + [f"--metadata {shlex.quote(text)}" for text in metadata or []]
    emit_page(page, COLUMNS, as_json, " ".join(["meteor completions list", *told]))


@app.command()
def show(completion: Completion, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """One chat: what was asked and what was answered."""
    with client(data) as api:
        chat = api.get(CHATS, completion)
        asked = Resource(CHATS.path(completion, "messages"), StoredMessage, Listed[StoredMessage])
        messages = api.page(asked, 100, None).data if not as_json else []
    lines = [f"{message.role}: {message.content or ''}" for message in messages]
    emit(chat, as_json, "\n".join([f"{chat.id}  {chat.version}", *lines, f"assistant: {answer_of(chat)}"]))


@app.command("set")
def set_metadata(
    completion: Completion,
    metadata: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE, several; none removes all")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give a chat other metadata."""
    pairs: JsonObject = dict(pair("metadata", text) for text in metadata or [])
    with client(data) as api:
        chat = api.ask(StoredCompletion, "POST", CHATS.path(completion), {"metadata": pairs})
    emit(chat, as_json, f"{chat.id}: {', '.join(f'{key}={value}' for key, value in chat.metadata.items()) or 'none'}")


def unix_seconds(text: str | None) -> int | None:
    """A day or a time of this machine. Raises UserError."""
    if text is None:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as error:
        raise UserError(f"{text!r} is no time; write 2026-11-30 or 2026-11-30T12:00", code="invalid_value") from error


@app.command()
def dataset(
    model: Model = None,
    metadata: Pairs = None,
    feedback: Annotated[
        list[str] | None, typer.Option(help="up, down, corrected or none: chats with one of these (may be repeated)")
    ] = None,
    since: Annotated[str | None, typer.Option(help="from this day or time on, such as 2026-11-30")] = None,
    until: Annotated[str | None, typer.Option(help="before this day or time")] = None,
    approved: Annotated[
        bool, typer.Option("--approved", help="answers with a thumb up become references, as corrections do")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many, the newest", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="where the rows go, too: a JSONL file")] = None,
    mask: MaskIt = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a dataset of stored chats. Those without a reference are answered by the teacher of the job that uses it."""
    pairs: JsonObject = dict(pair("--metadata", text) for text in metadata or [])
    source: JsonObject = {"type": "completions", "approved": approved}
    source |= given(model=model, metadata=pairs or None, limit=limit)
    source |= given(since=unix_seconds(since), until=unix_seconds(until), feedback=[*feedback] if feedback else None)
    with client(data) as api:
        made = api.ask(ImportObject, "POST", IMPORTS.route, {"source": source, "mask": mask})
        emit_imported(dataset_of(api, until_ended(api, made, as_json), out), as_json)


@app.command()
def forget(
    completions: Annotated[list[str] | None, typer.Argument(help="ids of chats, or with --file of its rows")] = None,
    user: Annotated[
        str | None, typer.Option(help="the user, as requests name them, whose chats and feedback are deleted")
    ] = None,
    file: Annotated[str | None, typer.Option(help="the dataset whose rows are named")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would be deleted, and what learned it")
    ] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete what is stored of a person or of chats, and say which datasets and versions learned from it."""
    ids = [*(completions or [])]
    if bool(ids) == (user is not None):
        raise Refused("say what is to be forgotten: --user NAME, or ids")
    body: JsonObject = {"dry_run": dry_run} | given(user=user, file=file)
    if ids:
        body["rows" if file else "completions"] = [*ids]
    with client(data) as api:
        result = api.ask(ForgetResult, "POST", "/v1/forget", body)
    emit(result, as_json, told(result))


def told(result: ForgetResult) -> str:
    would = "would be " * result.dry_run
    gone = f"{result.completions} stored chats, {result.feedback} rows of feedback and {result.labels} labels"
    lines = [f"{gone} {would}deleted"]
    lines += [f"{held.file} (version {held.version}) holds {len(held.rows)} rows of it" for held in result.datasets]
    for model in result.models:
        how = "learned from it" if not model.inherited else "went on from a version that learned from it"
        lines.append(
            f"{model.model}{' (served)' * model.served} {how if model.certain else 'may have learned from it'}"
        )
    lines += [f"{run.run} of {run.eval} holds {len(run.items)} items of it" for run in result.evals]
    for made in result.exports:
        lines.append(f"{made.id} is an export of {made.model}{f', pushed to {made.pushed}' if made.pushed else ''}")
    for call in result.retrain:
        job = call.path.split("/")[-2]
        without = (call.body or {})["without"]
        rows = " ".join(f"--without {shlex.quote(row)}" for row in without[:3])
        more = " ..." if len(without) > 3 else ""
        lines.append(f"train again without it: meteor jobs fork {job} {rows}{more}")
    return "\n".join(lines)


noun = Noun(app, "meteor completions", CHATS, COLUMNS, "an id, as `meteor completions list` shows it")
noun.add_delete("Delete stored chats with their feedback.")
