"""Graders named as OpenAI names them. A grader object is taken where it says exactly what a grader of ours does.

Theirs are templates over an item and a sample; here the item is always the record and the sample the student's answer,
so only those templates are known. Anything else is refused instead of being half obeyed.
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
    "number", "json_equal", "json_schema", "regex_equal", "sql_result", "code_tests", "python", "multi",
)  # fmt: skip
ALONE = ("number", "json_equal", "json_schema", "regex_equal", "code_tests")  # those whose settings all have a default
ANSWER = ("{{sample.output_text}}", "{{ sample.output_text }}")
REFERENCE = ("{{item.reference}}", "{{ item.reference }}")
MODEL_GRADERS = {"score_model": "evaluation.absolute_scores", "label_model": "evaluation.judged_questions"}


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
    if isinstance(kind, str) and kind in MODEL_GRADERS:
        raise ValueError(f"{kind} asks a model: that is the judge's part, see distillation.{MODEL_GRADERS[kind]}")
    if kind == "string_check":
        name, known = "string_check", {"operation": ("eq",)}
    elif kind == "text_similarity":
        name, known = "rouge_l", {"evaluation_metric": ("rouge_l",)}
    else:
        raise ValueError(f"type must be string_check, text_similarity, {', '.join(VERIFYING)}; or give a grader's name")
    known |= {"input": ANSWER, "reference": REFERENCE}
    for key, given in value.items():
        if key in ("type", "name"):
            continue
        if key not in known:
            raise ValueError(f"{kind}.{key} is not known; judge.pass_mark says what passes")
        if given not in known[key]:
            raise ValueError(f"{kind}.{key} can only be {known[key][0]!r}; the other graders have names, as 'chrf'")
    if kind == "text_similarity" and "evaluation_metric" not in value:
        raise ValueError("text_similarity needs evaluation_metric, which can only be 'rouge_l'")
    return name
