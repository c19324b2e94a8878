"""Several answers of the teacher to a question: whether they can agree at all."""

from collections.abc import Iterator

from services.api.features.jobs.posted import Posted
from shared.contracts.grader_kinds import TEXT_KINDS, Grader, StringCheckGrader, name_of
from shared.contracts.problems import Problem, warning

SIMILARITIES = (Grader.CHRF, Grader.ROUGE_L, Grader.FLAGS, Grader.CONTAINS)
BY_TEXT = tuple(
    kind for kind in TEXT_KINDS if kind is not StringCheckGrader
)  # they say of no two answers that they are the same


def samples(posted: Posted) -> Iterator[Problem | str]:
    """Texts of some length are hardly ever the same twice, and a similarity says of no two texts that they are."""
    spec = posted.spec
    if spec.teacher.samples == 1 or not posted.asks_teacher:
        return
    grader = spec.agreement_grader
    if grader in SIMILARITIES or isinstance(grader, BY_TEXT):
        yield warning(
            "samples_agree_by_text",
            f"of {spec.teacher.samples} samples those agree whose texts are equal, since {name_of(grader)} tells no more; "
            "questions without two equal answers are dropped",
            "name a grader that says when answers are the same in judge.grader or primary_metric (number, sql_result, json_equal, "
            "regex_equal, string_check), where answers are not short",
            "distillation.teacher.samples",
        )
    else:
        yield f"samples: {spec.teacher.samples} to a question, which agree by {name_of(grader)}"
