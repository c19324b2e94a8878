"""Graders by the names that the contract has for them. OpenAI's grader object for what a named grader of ours does is that name; the
others are templates over an item (the row) and a sample (the answer), as shared/contracts/templates.py fills them.
"""

from enum import StrEnum
from typing import Any


class Grader(StrEnum):
    """string_check: equal after normalising.  first_token: same first word.  contains: the reference stands in the answer.
    The others are similarities in [0, 1]; flags: F1 over the option flags of a command."""

    STRING_CHECK = "string_check"
    FIRST_TOKEN = "first_token"  # noqa: S105
    ROUGE_L = "rouge_l"
    CHRF = "chrf"
    FLAGS = "flags"
    CONTAINS = "contains"


VERIFYING = (
    "number", "json_equal", "json_schema", "regex_equal", "sql_result", "code_tests", "python", "multi", "score_model", "label_model", "endpoint", "plugin",
)  # fmt: skip
ALONE = ("number", "json_equal", "json_schema", "regex_equal", "code_tests")  # those whose settings all have a default
ANSWER = ("{{sample.output_text}}", "{{ sample.output_text }}")
REFERENCE = ("{{item.reference}}", "{{ item.reference }}")
# OpenAI's graders of texts: type -> the named grader that does the same, where this option has this value.
TEMPLATED = {
    "string_check": ("string_check", "operation", "eq"),
    "text_similarity": ("rouge_l", "evaluation_metric", "rouge_l"),
}

LONGEST_NAME = 200  # characters of the name that OpenAI's objects have


def grader_name(value: Any) -> Any:
    """A grader as the contract has it: the name for one of OpenAI's grader objects, the object for the name of a kind that
    verifies and needs no settings. Everything else is left as it is. Raises ValueError."""
    if isinstance(value, str) and value in VERIFYING:
        if value not in ALONE:
            raise ValueError(f"{value} needs settings: give an object, as {{'type': {value!r}, ...}}")
        return {"type": value}
    if isinstance(value, str) and value not in list(Grader):
        raise ValueError(f"no grader is called {value[:60]!r}; use one of {', '.join([*Grader, *VERIFYING])}")
    if not isinstance(value, dict) or value.get("type") in VERIFYING:
        return value
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in TEMPLATED:
        raise ValueError(f"type must be {', '.join([*TEMPLATED, *VERIFYING])}; or give a grader's name")
    name, option, ours = TEMPLATED[kind]
    for key in value.keys() - {"type", "name", "input", "reference", option}:
        raise ValueError(f"{kind}.{key} is not known; judge.pass_mark says what passes")
    if kind == "text_similarity" and option not in value:
        raise ValueError("text_similarity needs evaluation_metric, such as 'rouge_l'")
    ours_too = {option: (ours,), "input": ANSWER, "reference": REFERENCE}
    named = value.get("name")
    fits = named is None or (isinstance(named, str) and len(named) <= LONGEST_NAME)
    plain = fits and all(value.get(key, ways[0]) in ways for key, ways in ours_too.items())
    return name if plain else value
