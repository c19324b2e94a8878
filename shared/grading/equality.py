"""When two answers are the same to a grader, without a reference: equal results of queries, equal numbers, equal JSON values, equal
regular languages, equal programs; for all others the text, normalised."""

import ast
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.grader_kinds import (
    TEXT_KINDS,
    CodeTestsGrader,
    Grader,
    JsonEqualGrader,
    JsonSchemaGrader,
    MultiGrader,
    NumberGrader,
    RegexEqualGrader,
    SqlResultGrader,
    VerifyingGrader,
)
from shared.grading import json_values, numbers, regular_expressions, sql
from shared.grading.code import code_of
from shared.grading.deep_regex import same_language
from shared.judging.graders import clean, first_word

OF_TEXTS = (Grader, *TEXT_KINDS)  # graders whose equality is one of texts


class Equality(NamedTuple):
    """read: what a text says to the grader; ValueError where it says nothing (no number, no query that runs). same: whether two
    of these are one answer; None: where they are equal strings."""

    read: Callable[[str], Any]
    same: Callable[[Any, Any], bool] | None = None


def of_text(grader: Grader | VerifyingGrader) -> Equality:
    """For graders whose own equality is one of texts, or that have none: the text without fences, backticks and a final period,
    with single spaces. Of `first_token` the first word, of `contains` without regard to case."""
    match grader:
        case Grader.FIRST_TOKEN:
            return Equality(lambda text: _written(first_word(text) or ""))
        case Grader.CONTAINS:
            return Equality(lambda text: _written(clean(text).casefold()))
        case _:
            return Equality(lambda text: _written(clean(text)))


def of(spec: VerifyingGrader, files: Mapping[str, Path]) -> Equality:
    """files: uploaded files that graders read, by their ids. Reading and comparing may take long and much memory: run both
    within limits (agreement.py). A formula has no equality of its own: its parts have. Raises ValueError for one."""
    match spec:
        case NumberGrader():
            return Equality(partial(_number, spec), partial(numbers.same, spec))
        case JsonEqualGrader():
            return Equality(json_values.json_of, partial(json_values.same, spec))
        case JsonSchemaGrader():
            return Equality(partial(_valid, spec), partial(json_values.same, JsonEqualGrader(type="json_equal")))
        case RegexEqualGrader(syntax="deep_regex"):
            return Equality(_deep_regex, same_language)
        case RegexEqualGrader():
            return Equality(_automaton, lambda one, other: one.equivalent(other))
        case SqlResultGrader():
            return Equality(partial(_result, spec, files[spec.database]))
        case CodeTestsGrader():
            return Equality(_program)
        case MultiGrader():
            raise ValueError("a formula has no equality of its own")
        case _:
            return of_text(spec)


def _written(text: str) -> str:
    if not text:
        raise ValueError("no text")
    return text


def _number(spec: NumberGrader, text: str) -> numbers.Quantity:
    quantity = numbers.last_quantity(text, spec.decimal)
    if quantity is None:
        raise ValueError("no number")
    return quantity


def _valid(spec: JsonSchemaGrader, text: str) -> Any:
    """A schema of the row's own is a reference, so it is not looked at."""
    if spec.of is not None and not json_values.meets(spec, text, ""):
        raise ValueError("not valid under the schema")
    return json_values.json_of(text)


def _automaton(text: str) -> regular_expressions.FSM:
    return regular_expressions.automaton(_written(regular_expressions.written(text)))


def _deep_regex(text: str) -> str:
    pattern = _written(regular_expressions.written(text))
    same_language(pattern, pattern)
    return pattern


def _result(spec: SqlResultGrader, database: Path, text: str) -> str:
    """Order does not count: nothing says whether it was asked for."""
    rows = sql.equality_key(sql.run(spec, database, sql.query_of(text)))
    return hashlib.sha256(repr(rows).encode("utf-8", "surrogatepass")).hexdigest()


def _program(text: str) -> str:
    """A program without its comments and layout."""
    try:
        return ast.dump(ast.parse(_written(code_of(text).strip())))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"no program: {error}") from None
