"""Jobs as OpenAI's clients post them, turned into ours, or refused with what would mend it."""

from services.api.context import ApiContext
from services.api.features.jobs import checks as job_checks
from shared.contracts.errors import UserError
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import JobRequest

INSTEAD = {
    "reinforcement": "a grader's reward is no training signal here. A job's phase iterate keeps what a grader lets pass "
    "(distillation.judge.grader)",
}


def job_of(context: ApiContext, project: str, request: FineTuningRequest) -> JobRequest:
    """Raises UserError for what OpenAI's API has and this one has not, and for a file without answers to train on."""
    _check_known(request)
    if request.distillation is None:
        data = job_checks.files_of(context, project, request.training_file, request.validation_file or None)
        if job_checks.lacks_references(context, data):
            raise UserError(
                "supervised training needs answers to train on and to measure by: a last message of the assistant in (nearly) "
                "every row, or a reference. For a file of questions alone post a `distillation` object: a teacher answers",
                param="training_file",
                code="no_references",
            )
    return request.job()


def _check_known(request: FineTuningRequest) -> None:
    if request.method is not None and request.method.type in INSTEAD:
        raise UserError(
            f"method {request.method.type} is not supported: {INSTEAD[request.method.type]}",
            param="method.type",
            code="unsupported_method",
        )
    if request.integrations:
        raise UserError(
            "no integrations are supported; GET .../metrics and .../report have the figures",
            param="integrations",
            code="unsupported_parameter",
        )
