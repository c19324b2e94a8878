"""One interface to the graders that verify: a kind with its settings, an answer, a reference, a score in [0, 1]."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from shared.contracts.grader_kinds import (
    JsonEqualGrader,
    JsonSchemaGrader,
    NumberGrader,
    PluginGrader,
    RegexEqualGrader,
    SqlResultGrader,
    VerifyingGrader,
)
from shared.grading import json_values, numbers, plugins, regular_expressions, sql

Score = Callable[[str, str], float]


def grader(spec: VerifyingGrader, files: Mapping[str, Path]) -> Score:
    """The function of (answer, reference) that scores by `spec`. files: uploaded files that graders read, by their ids.

    It raises ValueError where the reference cannot be graded against, and Stopped where the answer needs more than the grader's own
    limits; a wrong or malformed answer is 0. A plugin's raises PluginFailed too, and may not be fit: PluginUnfit. It may take long and much memory: bounded.py runs it within limits.
    """
    match spec:
        case NumberGrader():
            return partial(numbers.score, spec)
        case JsonEqualGrader():
            return partial(json_values.equal, spec)
        case JsonSchemaGrader():
            return partial(json_values.meets, spec)
        case RegexEqualGrader():
            return partial(regular_expressions.score, spec)
        case SqlResultGrader():
            return partial(sql.score, spec, files[spec.database])
        case PluginGrader():
            return plugins.score_of(spec)
        case _:
            raise ValueError(f"{spec.type} runs code or other graders: graders.py has it")
