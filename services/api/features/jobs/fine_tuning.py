"""What is checked of a job as OpenAI's clients post it, beside what is checked of every job: each with what to do instead."""

from collections.abc import Iterator

from services.api.features.jobs.checks import Check
from services.api.features.jobs.posted import Posted
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.problems import Problem

ALTERNATIVES = {
    "reinforcement": "a grader's reward is no training signal here. A job's phase iterate keeps the answers that a grader "
    "passes (distillation.judge.grader)",
}


def checks_of(request: FineTuningRequest) -> Check:
    """What this API lacks of OpenAI's, and a file without answers to train on."""

    def check(posted: Posted) -> Iterator[Problem]:
        if request.method is not None and request.method.type in ALTERNATIVES:
            yield Problem(
                code="unsupported_method",
                param="method.type",
                message=f"method {request.method.type} is not supported: {ALTERNATIVES[request.method.type]}",
            )
        if request.integrations:
            yield Problem(
                code="unsupported_parameter",
                param="integrations",
                message="no integrations are supported",
                remedy="GET .../metrics and .../report have the figures",
            )
        if request.distillation is None and posted.lacks_references:
            yield Problem(
                code="no_references",
                param="training_file",
                message="supervised training needs answers to train on and to measure by: a last message of the assistant in "
                "(nearly) every row, or a reference",
                remedy="for a file of questions alone post a `distillation` object: a teacher answers",
            )

    return check
