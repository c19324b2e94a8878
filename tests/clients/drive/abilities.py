"""What a client is asked to do, and how it is written down. It stands beside the drivers and needs nothing but Python.

A driver names each ability that its client has and returns None, or raises what the client raised. The server's address, key and
model, and a file of rows, are in the environment.
"""

import json
import os
import traceback
from collections.abc import Callable

URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
MODEL = os.environ["METEOR_MODEL"]
ROWS = os.environ["METEOR_ROWS"]
SHORT = 40  # tokens of an answer

CITY_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}, "large": {"type": "boolean"}},
    "required": ["city", "large"],
    "additionalProperties": False,
}
QUESTION = "How is the weather in Rome?"

_found: dict[str, Callable[[], object]] = {}


def ability(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Of a function that raises where the client, or the server for it, fails."""

    def kept(function: Callable[[], object]) -> Callable[[], object]:
        _found[name] = function
        return function

    return kept


def run() -> None:
    """Tries everything and prints one line of JSON: ability -> "ok", or what went wrong."""
    said: dict[str, str] = {}
    for name, function in _found.items():
        try:
            function()
            said[name] = "ok"
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in place if frame.filename.endswith(f"{os.sep}drive{os.sep}{_driver()}")]
            said[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:600]} (line {lines[-1:] or '?'})"
    print(json.dumps(said))


def _driver() -> str:
    import __main__

    return os.path.basename(__main__.__file__)


def told(text: object) -> None:
    """Raises for an answer without a word."""
    assert isinstance(text, str), f"no text but {text!r}"
    assert text.strip(), "an empty answer"


def of_schema(value: object) -> None:
    """Raises for a value that is not of CITY_SCHEMA."""
    assert isinstance(value, dict), f"no object but {value!r}"
    assert value.get("city") in ("Rome", "Oslo"), value
    assert isinstance(value.get("large"), bool), value
