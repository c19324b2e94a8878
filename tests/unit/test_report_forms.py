"""Every form of a report shows every finding: a field of the report that no section shows fails here, and so does a form that
leaves a line or a table out."""

import io
import itertools
import re
from collections.abc import Iterator
from html import unescape
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from rich.console import Console

from services.api.features.results.report_page import page
from services.cli.report_screen import show_report
from services.orchestrator.jobs.card import card
from shared.contracts.estimate import Estimate
from shared.contracts.report import Report, read_report
from shared.contracts.report_part import Triple
from shared.reporting.markdown import as_markdown
from shared.reporting.sections import sections
from tests.unit.test_model_card import MANIFEST

# Fields that stand in the JSON alone -> why.
JSON_ALONE = {
    r"object|version": "the form, not a finding",
    r"table\.0\.adapter|final\.adapter": "a content hash; the model's name is shown",
    r"table\.0\.scores\.0|dev\.scores\.0": "question by question; their mean is shown",
    r"dev\.places\.0": "which of dev's questions decided; how many is shown",
    r"verdict\.(beats_base|beaten\.0|not_beaten\.0)": "said in verdict.words",
    r"measured\.without_reference\.name": "of dev and test; another split measures nothing",
    r"phases\.pilot\.estimate": "what was expected before the job; what it took is shown",
    r"phases\.(distill|iterate\.rounds\.0)\.training\.mean_tokens_.*": "of preference pairs, which evolve alone has",
    r"phases\..*\.training\.(margin_first|margin|reward_accuracy)": "of trained pairs; where some are held out, theirs are shown",
    r"samples\.0\..*": "examples of the user's own questions; the page shows them",
    r"final\.over\.base": "in the standing and, by grader, in final.by_metric",
}


def made(kind: Any, numbers: Iterator[int] | None = None) -> Any:
    """A value of the type in which everything optional is there and no number stands twice. numbers: those that it takes; by default the
    same ones in each call, whatever was made before."""
    numbers = numbers or itertools.count(3)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return made(next(argument for argument in arguments if argument is not NoneType), numbers)
    if origin is Literal:
        return arguments[0]
    if kind is Estimate:
        return None
    if kind is Triple:
        value = 0.1 + next(numbers) / 1000
        return [value, value - 0.05, value + 0.05]
    if origin is list:
        return [made(arguments[0], numbers)]
    if origin is dict:
        return {"name": made(arguments[1], numbers)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: made(field.annotation, numbers) for name, field in kind.model_fields.items()}
    if kind is bool:
        return True
    number = next(numbers)
    return {int: number, float: round(0.1 + number / 1000, 3), str: f"text{number}", Any: f"any{number}"}[kind]


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    numbers = itertools.count(3)
    report = made(Report, numbers)
    report["primary_metric"] = "name"
    report["table"][0]["name"] = report["final"]["name"] = "final-model"
    report["final"]["over"] = {"base": report["final"]["over"]["name"]}
    report["final"]["by_metric"] = {"base": {"name": made(Triple, numbers)}}
    report["final"]["record"] = {"base": report["final"]["record"]["name"]}
    report["measured"] = {**report["measured"], "by": "judge"}
    report["judge"]["decides"] = False
    return report


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values; an interval is one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list) and not is_interval(value):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path


def is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(part, float) for part in value)


def changed(value: Any, path: tuple[str | int, ...]) -> Any:
    """The report with another value at the path."""
    if path:
        name, *rest = path
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        copy[name] = changed(value[name], tuple(rest))
        return copy
    if is_interval(value):
        return [part + 0.3 for part in value]
    if isinstance(value, bool):
        return not value
    return (
        value + 0.37
        if isinstance(value, float)
        else value + 500
        if isinstance(value, int)
        else OTHER.get(value, "other")
    )


OTHER = {
    "promoted": "rejected",
    "margin_reached": "questions_used_up",
    "distillation.report": "distillation.report",
    "judge": "references",
    "name": "base",
}


def texts(report: Report) -> list[str]:
    """Every title, cell and line of the sections."""
    parts = []
    for section in sections(report):
        parts += [section.title, *(line.text for line in section.lines)]
        if section.table:
            parts += [cell for row in (section.table.head, *section.table.rows) for cell in row if cell]
    return parts


def test_every_field_of_a_report_is_shown_or_left_to_the_json_with_a_reason(full: dict[str, Any]):
    before, silent = texts(read_report(full)), []
    for path in leaves(full):
        name = ".".join(map(str, path))
        if name == "primary_metric" or any(re.fullmatch(pattern, name) for pattern in JSON_ALONE):
            continue
        if texts(read_report(changed(full, path))) == before:
            silent.append(name)
    assert not silent, "show them in shared/reporting, or say in JSON_ALONE why only the JSON has them"


def on_screen(report: Report) -> str:
    file = io.StringIO()
    show_report(Console(file=file, width=2000), report)
    return file.getvalue()


def on_page(report: Report) -> str:
    return unescape(re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", "", page(report), flags=re.DOTALL))


FORMS = {
    "screen": on_screen,
    "markdown": as_markdown,
    "page": on_page,
    "card": lambda report: card(MANIFEST, report, "expert-3"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_every_line_and_cell(full: dict[str, Any], form: str):
    report = read_report(full)
    shown = " ".join(FORMS[form](report).split())
    missing = [text for text in texts(report) if " ".join(text.split()) not in shown]
    assert not missing
    assert len(texts(report)) > 60


@pytest.mark.parametrize("form", FORMS)
def test_what_was_forgotten_and_the_power_stand_in_every_form(full: dict[str, Any], form: str):
    forgetting = full["promotion"]["forgetting"] | {
        "n": 40, "base": [0.4, 0.26, 0.55], "final": [0.15, 0.06, 0.29], "change": [-0.25, -0.4, -0.1],
    }  # fmt: skip
    shown = FORMS[form](read_report(full | {"promotion": full["promotion"] | {"forgetting": forgetting}}))
    assert "General questions answered right: 40% [26%, 55%] before, 15% [6%, 29%] after" in shown
    assert "test questions a true gain of 5 points is seen in" in shown
