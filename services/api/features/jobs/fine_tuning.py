"""What is checked of a job as OpenAI's clients post it, beside what is checked of every job: each with what to do instead."""

from collections.abc import Iterator

from services.api.features.jobs.checks import Check
from services.api.features.jobs.posted import Posted
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.problems import Problem


def checks_of(request: FineTuningRequest) -> Check:
    """What this API lacks of OpenAI's, and a file without anything to train on, or to grade by."""

    def check(posted: Posted) -> Iterator[Problem]:
        if request.distillation is not None or not posted.lacks_references:
            return
        if request.reinforcement is not None:
            yield Problem(
                code="no_references",
                param="training_file",
                message="reinforcement needs rows that its grader can grade: a reference, or further fields that its templates or its "
                "code read ({{item.FIELD}})",
                remedy="give (nearly) every row such a field, and name it in the grader",
            )
        else:
            yield Problem(
                code="no_references",
                param="training_file",
                message="supervised training needs answers to train on and to measure by: a last message of the assistant in "
                "(nearly) every row, or a reference",
                remedy="for a file of questions alone post a `distillation` object: a teacher answers",
            )

    return check
