"""Jobs as OpenAI's clients post them, converted to distillation jobs, or refused with what to do instead."""

from services.api.context import ProjectContext
from services.api.features.jobs import checks
from shared.contracts.errors import UserError
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import JobRequest

ALTERNATIVES = {
    "reinforcement": "a grader's reward is no training signal here. A job's phase iterate keeps the answers that a grader "
    "passes (distillation.judge.grader)",
}


def job_of(context: ProjectContext, request: FineTuningRequest) -> JobRequest:
    """Raises UserError for a feature of OpenAI's API that this one lacks, and for a file without answers to train on."""
    _refuse_unsupported(request)
    if request.distillation is None:
        data = checks.files_of(context, request.training_file, request.validation_file or None)
        if checks.lacks_references(context, data):
            raise UserError(
                "supervised training needs answers to train on and to measure by: a last message of the assistant in (nearly) "
                "every row, or a reference. For a file of questions alone post a `distillation` object: a teacher answers",
                param="training_file",
                code="no_references",
            )
    return request.job()


def _refuse_unsupported(request: FineTuningRequest) -> None:
    if request.method is not None and request.method.type in ALTERNATIVES:
        raise UserError(
            f"method {request.method.type} is not supported: {ALTERNATIVES[request.method.type]}",
            param="method.type",
            code="unsupported_method",
        )
    if request.integrations:
        raise UserError(
            "no integrations are supported; GET .../metrics and .../report have the figures",
            param="integrations",
            code="unsupported_parameter",
        )
