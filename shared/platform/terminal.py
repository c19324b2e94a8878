"""What the command-line programs print: JSON on one line for scripts, text and tables for people."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from pydantic import BaseModel
from rich.console import Console, RenderableType

LOG_WIDTH = 150  # columns of a table that goes to a file or a pipe
QUIET_S = 30.0  # seconds between two lines of progress that goes to a file or a pipe


def make_console() -> Console:
    """As wide as the terminal; LOG_WIDTH where there is none."""
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)


console = make_console()


def emit(value: object, as_json: bool, text: RenderableType | None = None) -> None:
    """Print a model, dataclass or mapping as one line of JSON, or `text` for people (None: the JSON, indented)."""
    if as_json:
        write(json.dumps(_plain(value)) + "\n")
    elif text is None:
        console.print_json(json.dumps(_plain(value)))
    elif isinstance(text, str):
        say(text)
    else:
        console.print(text)


def say(text: str, style: str | None = None) -> None:
    """Print a text as it is: no markup, no line breaks of ours."""
    console.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """JSON values. A model read from an answer keeps the fields that the answer had."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
