"""`meteor labels ...`: human preferences, which the judge is compared with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import JsonObject, Refused, Resource, client
from services.cli.options import DEFAULT_DATA, Data, Json
from services.cli.output import Columns, one_line
from services.cli.verbs import Noun
from shared.contracts.data import LineError, checked, json_line
from shared.contracts.errors import UserError
from shared.contracts.labels import MOST_AT_ONCE, Label, LabelObject, LabelsAdded
from shared.contracts.views import Listed
from shared.platform.terminal import emit

app = typer.Typer(help="Human preferences between two answers; jobs measure their judge on them.", no_args_is_help=True)
LABELS = Resource("/v1/labels", LabelObject, Listed[LabelObject])
SHOWN = 10  # bad lines that one error names
BODY_BYTES = 4 * 2**20  # of one request
COLUMNS: Columns[LabelObject] = {
    "label": lambda label: label.id,
    "preferred": lambda label: label.preferred,
    "question": lambda label: one_line(label.question),
}


def read_labels(path: Path) -> list[Label]:
    """All rows of a JSONL file. Raises UserError that names the bad lines by their numbers."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    lines = enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1)
    values = [(number, json_line(number, raw)) for number, raw in lines]
    rows = [checked(Label, number, value) if isinstance(value, dict) else value for number, value in values]
    bad = [row for row in rows if isinstance(row, LineError)]
    if bad:
        shown = "; ".join(f"line {error.line}: {error.message[:200]}" for error in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{path.name} has {len(bad)} bad lines, nothing was sent: {shown}{more}", code="invalid_row")
    return [row for row in rows if isinstance(row, Label)]


def bodies(labels: list[Label]) -> Iterator[list[JsonObject]]:
    """The rows in order, in parts that a request may hold."""
    part: list[JsonObject] = []
    size = 0
    for label in labels:
        row = label.model_dump(mode="json")
        length = len(json.dumps(row))
        if part and (len(part) == MOST_AT_ONCE or size + length > BODY_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    yield part


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="JSONL: question, first, second, preferred (first, second, tie)")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Add labels. The same label given twice is kept once."""
    labels = read_labels(file)
    if not labels:
        raise UserError(f"{file.name} has no rows; one JSON object per line is expected", code="empty_file")
    added = known = total = 0
    with client(data) as api:
        for rows in bodies(labels):
            answer = api.ask(LabelsAdded, "POST", LABELS.route, {"labels": [*rows]})
            added, known, total = added + answer.added, known + answer.known, answer.total
    counts = {"added": added, "known": known, "total": total}
    emit(counts, as_json, f"{added} labels added, {known} were known; {total} in all")


noun = Noun(app, "meteor labels", LABELS, COLUMNS, "an id, as `meteor labels list` shows it")
noun.add_list("The newest labels.")
noun.add_delete("Delete labels. Jobs that were posted before still use them.")
