"""`meteor data generate` and `meteor data coverage`: questions where there are none, and the map of what they cover."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from services.cli.client import FILES, ApiClient, JsonObject, client, problem_of
from services.cli.commands.imports import (
    IMPORTS,
    Import,
    dataset_of,
    emit_imported,
    packed_documents,
    until_ended,
)
from services.cli.options import DEFAULT_DATA, Data, Json, MaskIt, given
from shared.contracts.coverage import CoverageCell, CoveredCell
from shared.contracts.errors import UserError
from shared.contracts.estimate import Range, Spend
from shared.contracts.imports import GenerateOptions, ImportEstimate, ImportObject
from shared.platform.terminal import emit, say

app = typer.Typer()
CELLS = TypeAdapter(list[CoverageCell])
MapFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="a map as `meteor data coverage --json` writes it"),
]


@app.command()
def generate(
    domain: Annotated[str, typer.Argument(help="the domain, in a sentence")],
    questions: Annotated[int | None, typer.Option(min=1, help="how many (200)")] = None,
    topics: Annotated[
        list[str] | None, typer.Option("--topic", help="a topic (may be repeated); else proposed")
    ] = None,
    levels: Annotated[
        list[str] | None,
        typer.Option(
            "--level", help="a difficulty or a kind of question (may be repeated); basic, intermediate, advanced"
        ),
    ] = None,
    coverage: MapFile = None,
    documents: Annotated[
        Path | None, typer.Option(exists=True, help="a document or a folder: what they are about")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="a data file of questions that a model answered badly"),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="more questions like those of the project's labels")] = False,
    review: Annotated[bool, typer.Option("--review", help="pause with the map, before questions are paid for")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="say what it would cost at the strong model, and post nothing")
    ] = False,
    provider: Annotated[str | None, typer.Option(help="the strong model that writes them")] = None,
    usd: Annotated[float | None, typer.Option(help="what the strong model may cost")] = None,
    out: Annotated[Path | None, typer.Option(help="where the rows go as well: a JSONL file")] = None,
    mask: MaskIt = False,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Let a strong model write the questions of a field, balanced over topics and levels. The dataset is uploaded."""
    if documents is not None and log is not None:
        raise UserError("an import reads one file: give --documents or --log", code="invalid_value")
    options: dict[str, Any] = {
        "domain": domain, "count": questions, "topics": topics or None, "levels": levels or None, "provider": provider,
        "coverage": [cell.model_dump() for cell in read_map(coverage)] if coverage else None,
        "material": "log" if log else None, "labels": labels or None, "review": review or None,
    }  # fmt: skip
    try:
        source = GenerateOptions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise UserError(problem_of(error), code="invalid_value") from error
    body: JsonObject = {"source": source.model_dump(exclude_defaults=True) | {"type": "generate"}}
    body |= {"budget": given(max_usd=usd), "mask": mask}
    with client(data) as api:
        if documents is not None:
            body["file"] = packed_documents(api, documents)
        elif log is not None:
            body["file"] = api.upload(log, purpose="user_data").id
        if estimate:
            _estimate(api, body, as_json)
            return
        item = api.ask(ImportObject, "POST", IMPORTS.route, body)
        if not as_json and item.estimate:
            say(f"estimated: {_spend(item.estimate)}")
        _follow(api, item, out, as_json)


def _estimate(api: ApiClient, body: JsonObject, as_json: bool) -> None:
    """Show it; a file that was uploaded for it is deleted again."""
    try:
        told = api.ask(ImportEstimate, "POST", IMPORTS.path("estimate"), body)
    finally:
        if isinstance(file := body.get("file"), str):
            api.delete(FILES, file)
    emit(told, as_json, f"estimated: {_spend(told.strong_model)}" if told.strong_model else "not known")


def _follow(api: ApiClient, item: ImportObject, out: Path | None, as_json: bool) -> None:
    item = until_ended(api, item, as_json, stops_at_review=True)
    if item.status == "paused":
        emit(item, as_json, table(item))
        if not as_json:
            say(f"{item.id} waits with this map. `meteor data coverage {item.id} --json > map.json`, edit it,")
            say(
                f"`meteor data coverage {item.id} --set map.json`; `meteor data resume {item.id}` and `meteor data watch {item.id}`"
            )
        return
    if not as_json:
        emit(None, False, table(item))
        if item.result and item.result.shortfall:
            say(f"{item.result.shortfall} questions of the map are missing")
    emit_imported(dataset_of(api, item, out), as_json)


def _spend(spend: Spend) -> str:
    usd = f"{spend.usd.low:.4f} to {spend.usd.high:.4f} USD" if spend.usd else "price unknown"
    return f"{_span(spend.calls)} calls, {_span(spend.input_tokens + spend.output_tokens)} tokens, {usd}"


def _span(span: Range) -> str:
    return f"{span.low:.0f} to {span.high:.0f}"


def read_map(path: Path) -> list[CoverageCell]:
    """A list of cells, or an object with one as `coverage`. Raises UserError."""
    try:
        value = json.loads(path.read_text())
        cells = value["coverage"] if isinstance(value, dict) else value
        return CELLS.validate_python(
            [{name: cell[name] for name in CoverageCell.model_fields if name in cell} for cell in cells]
        )
    except ValidationError as error:
        raise UserError(f"{path}: {problem_of(error)}", code="invalid_value") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no coverage map: {error}", code="invalid_value") from error


@app.command()
def coverage(
    import_id: Import,
    change: Annotated[
        Path | None,
        typer.Option("--set", exists=True, dir_okay=False, help="another map; while the import waits with it"),
    ] = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Show what generated questions cover: topics by levels, wanted and there. --set changes the map before they are paid for."""
    with client(data) as api:
        if change is not None:
            body: JsonObject = {"coverage": [cell.model_dump() for cell in read_map(change)]}
            item = api.change(IMPORTS, import_id, body)
        else:
            item = api.get(IMPORTS, import_id)
    if not isinstance(item.source, GenerateOptions):
        raise UserError(f"{import_id} generates no questions, so it has no coverage map", code="invalid_value")
    shown = [cell.model_dump() for cell in cells_of(item)]
    emit({"id": item.id, "coverage": shown}, as_json, table(item))


def cells_of(item: ImportObject) -> list[CoveredCell] | list[CoverageCell]:
    if item.result and item.result.coverage:
        return item.result.coverage
    return (item.source.coverage or []) if isinstance(item.source, GenerateOptions) else []


def table(item: ImportObject) -> Table:
    """Topics down, levels across; "made/wanted" once questions are there."""
    cells = cells_of(item)
    levels = list(dict.fromkeys(cell.level for cell in cells))
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("topic", overflow="fold")
    for level in levels:
        shown.add_column(level, justify="right")
    for topic in dict.fromkeys(cell.topic for cell in cells):
        of_topic = {cell.level: cell for cell in cells if cell.topic == topic}
        shown.add_row(topic, *(_cell(of_topic.get(level)) for level in levels))
    return shown


def _cell(cell: CoverageCell | None) -> str:
    if cell is None:
        return "-"
    return f"{cell.made}/{cell.questions}" if isinstance(cell, CoveredCell) else str(cell.questions)
