"""Every variable that a settings class reads is documented, with the default that it has; and no other one is."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic_settings import BaseSettings

from tests.variables import CLASSES, names_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / ".env.example", *(ROOT / "docs").rglob("*.md")]
TEXT = "\n".join(page.read_text() for page in PAGES)
REFERENCE = (ROOT / "docs/reference/settings.md").read_text()
NAME = re.compile(r"\b(?:OTEL_[A-Z0-9_]*[A-Z0-9]|METEOR_[A-Z0-9_]*[A-Z0-9]|DATABASE_URL|REDIS_URL|HF_TOKEN)\b")
UNITS = {"MiB": 2**20, "GiB": 2**30}


def settings_of(name: str) -> list[tuple[type[BaseSettings], str]]:
    return [(one, field) for one in CLASSES for field in one.model_fields if name in names_of(one, field)]


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__name__)
def test_every_setting_is_documented(settings: type[BaseSettings]):
    documented = set(NAME.findall(TEXT))
    missing = [field for field in settings.model_fields if not documented.intersection(names_of(settings, field))]
    assert not missing, f"no document names {missing} of {settings.__name__}"


def test_every_variable_that_is_documented_is_read():
    """By a settings class, or by name: in the command line, the Compose form, or a test."""
    read = {name for settings in CLASSES for field in settings.model_fields for name in names_of(settings, field)}
    sources = [ROOT / "docker-compose.yml", ROOT / "Makefile", ROOT / "deploy/providers.toml"]
    sources += [path for folder in ("services", "shared", "tests") for path in (ROOT / folder).rglob("*.py")]
    read |= {name for path in sources if path != Path(__file__) for name in NAME.findall(path.read_text())}
    strangers = {name for name in set(NAME.findall(TEXT)) - read if not re.search(rf"{name}_?\*", TEXT)}
    assert not strangers


def test_every_variable_of_the_compose_file_is_in_the_reference():
    asked = set(re.findall(r"\$\{((?:METEOR|OTEL)_[A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert len(asked) > 20
    assert asked <= set(NAME.findall(REFERENCE))


def rows() -> list[tuple[list[str], list[str]]]:
    """(variables, what stands in the column `default`) of the tables in docs/reference/settings.md that name as many of both."""
    lines = re.findall(r"^\| (`[A-Z][^|]*`) \| ([^|]*) \| [^|]* \|$", REFERENCE, re.MULTILINE)
    pairs = [(NAME.findall(names), re.split(r", (?=`|\d|on\b|none|empty)", told.strip())) for names, told in lines]
    return [(names, told * len(names) if len(told) == 1 else told) for names, told in pairs]


def plain(value: Any) -> Any:
    """A default as a number, a text, or None where nothing is set."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool | Path):
        return str(value).lower()
    return None if value is None or (isinstance(value, str | list | tuple | frozenset) and not value) else value


def parsed(told: str) -> Any:
    text = told.strip("`")
    if re.fullmatch(r"P[\dTDHMS.]+", text):
        return TypeAdapter(timedelta).validate_python(text).total_seconds()
    number, _, unit = text.partition(" ")
    if re.fullmatch(r"\d+(\.\d+)?", number) and (not unit or unit in UNITS):
        return float(number) * UNITS.get(unit, 1)
    return None if text in ("none", "empty", "-") else text


def test_the_defaults_are_those_of_the_code():
    compared, wrong = 0, {}
    for names, told in rows():
        for name, text in zip(names, told, strict=False):
            fields = settings_of(name)
            if not fields or not re.fullmatch(r"`[^`]+`|\d+(\.\d+)?( \w+)?|none|empty", text):
                continue  # said in words
            compared += 1
            defaults = [
                plain(settings.model_fields[field].get_default(call_default_factory=True)) for settings, field in fields
            ]
            if parsed(text) not in defaults:
                wrong[name] = (text, defaults)
    assert wrong == {}
    assert compared > 90
