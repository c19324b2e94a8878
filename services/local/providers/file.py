"""Changing METEOR_PROVIDERS_FILE: one entry at a time, the rest of the file as it was, comments included."""

import json
import re
import tempfile
from pathlib import Path

from pydantic import ValidationError

from shared.contracts.error_location import unknown_name
from shared.contracts.errors import Conflict, UserError
from shared.contracts.json_types import Json
from shared.platform.providers import ProviderEntry, first_problem, read_providers

TITLE = "# Strong models by name. Keys stand in environment variables, never here. docs/how-to/your-own-teacher.md\n"
BARE = re.compile(r"[A-Za-z0-9_-]+")


def add(path: Path, name: str, fields: Json, replace: bool) -> ProviderEntry:
    """Write an entry. Raises UserError: a field that there is not, or (without replace) a name that is taken."""
    try:
        entry = ProviderEntry.model_validate(fields)
    except ValidationError as error:
        where = error.errors(include_input=False)[0]["loc"][0]
        if where not in ProviderEntry.model_fields:
            raise unknown_name("field of a provider", str(where), ProviderEntry.model_fields) from None
        raise UserError(first_problem(error), code="invalid_value") from None
    text = path.read_text() if path.exists() else ""
    if name in entries(path):
        if not replace:
            raise Conflict(f"{path} has a provider {name!r}; --replace writes it anew, --name chooses another name")
        text = without(path, text, name)
    if path.suffix == ".json":
        content = json.loads(text or "{}")
        content.setdefault("providers", {})[name] = fields
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    else:
        lines = [f"[providers.{_key(name)}]", *(f"{field} = {_toml(value)}" for field, value in fields.items())]
        text = f"{(text or TITLE).rstrip()}\n\n" + "\n".join(lines) + "\n"
    write(path, text)
    return entry


def remove(path: Path, name: str) -> None:
    """Raises NotFound, and Conflict where another entry falls back to this one."""
    known = entries(path)
    if name not in known:
        raise unknown_name("provider of the file", name, known)
    users = [other for other, entry in known.items() if name in entry.fallback]
    if users:
        raise Conflict(f"{', '.join(users)} names {name!r} as fallback; take it out there first")
    write(path, without(path, path.read_text(), name))


def entries(path: Path) -> dict[str, ProviderEntry]:
    """Raises ProvidersFileError."""
    return read_providers(path) if path.exists() else {}


def without(path: Path, text: str, name: str) -> str:
    """The file's text without an entry. Raises UserError where the entry is written in a way that is not a table of its own."""
    if path.suffix == ".json":
        content = json.loads(text)
        del content["providers"][name]
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    table = rf"""^\[\s*providers\s*\.\s*(?:{re.escape(name)}|"{re.escape(name)}"|'{re.escape(name)}')\s*(?:\.[^\]]*)?\][^\n]*\n?"""
    shorter = re.sub(rf"{table}(?:(?!\[)[^\n]*\n?)*?(?=^\[|\Z)", "", text, flags=re.MULTILINE)
    if shorter == text:
        raise UserError(f"{path} does not write {name!r} as [providers.{name}]; change that entry by hand")
    return shorter


def write(path: Path, text: str) -> None:
    """All or nothing: what was written is read before it takes the file's place. Raises ProvidersFileError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=path.suffix, delete=False) as file:
        file.write(text)
    made = Path(file.name)
    try:
        read_providers(made)
        if path.exists():
            made.chmod(path.stat().st_mode)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else json.dumps(name)


def _toml(value: object) -> str:
    """Strings, numbers, booleans, lists and tables on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
