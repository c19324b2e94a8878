"""`meteor feedback ...`: what people say of stored chats."""

from typing import Annotated

import typer

from services.cli.client import JsonObject, Refused, Resource, client
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit, given
from services.cli.output import Columns, emit_page, one_line
from services.cli.verbs import Noun
from shared.contracts.feedback import FeedbackObject
from shared.contracts.views import Listed
from shared.platform.terminal import emit

app = typer.Typer(help="Judge stored chats: a thumb, a score, a better answer, a comment.", no_args_is_help=True)
FEEDBACK = Resource("/v1/feedback", FeedbackObject, Listed[FeedbackObject])
COLUMNS: Columns[FeedbackObject] = {
    "feedback": lambda row: row.id,
    "completion": lambda row: row.completion_id,
    "version": lambda row: row.version,
    "rating": lambda row: row.rating,
    "score": lambda row: row.score,
    "correction": lambda row: one_line(row.correction or ""),
    "comment": lambda row: one_line(row.comment or ""),
}


@app.command()
def add(
    completion: Annotated[str, typer.Argument(help="the id of a stored chat")],
    up: Annotated[bool, typer.Option("--up", help="a thumb up")] = False,
    down: Annotated[bool, typer.Option("--down", help="a thumb down")] = False,
    score: Annotated[float | None, typer.Option(help="from 0 (useless) to 1 (perfect)", min=0, max=1)] = None,
    correction: Annotated[str | None, typer.Option(help="the answer that should have been given")] = None,
    comment: Annotated[str | None, typer.Option(help="free text")] = None,
    author: Annotated[str | None, typer.Option(help="who says it; replaces what the same author said before")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Judge a stored chat."""
    if up and down:
        raise Refused("--up and --down exclude each other")
    rating = "up" if up else "down" if down else None
    body: JsonObject = {"completion_id": completion}
    body |= given(rating=rating, score=score, correction=correction, comment=comment, author=author)
    with client(data) as api:
        made = api.ask(FeedbackObject, "POST", FEEDBACK.route, body)
    emit(made, as_json, made.id)


@app.command("list")
def list_feedback(
    completion: Annotated[str | None, typer.Option(help="of this chat")] = None,
    rating: Annotated[str | None, typer.Option(help="up or down")] = None,
    model: Annotated[str | None, typer.Option(help="an alias or a base, or alias@version")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """The newest feedback."""
    filters = {"completion_id": completion, "rating": rating, "model": model}
    with client(data) as api:
        page = api.page(FEEDBACK, limit, after, **filters)
    told = [f"--{name.removesuffix('_id')} {value}" for name, value in filters.items() if value]
    emit_page(page, COLUMNS, as_json, " ".join(["meteor feedback list", *told]))


noun = Noun(app, "meteor feedback", FEEDBACK, COLUMNS, "an id, as `meteor feedback list` shows it")
noun.add_show("One piece of feedback in full.", lambda row: row.model_dump_json(indent=2))
noun.add_delete("Delete feedback.")
