"""Pushes an export's files to a model hub. The token comes from the environment and is neither stored nor logged."""

import os

from services.trainer.spec import Metrics, Spec
from services.trainer.train.progress import Reporter
from shared.contracts.errors import FatalError, TransientError
from shared.contracts.export_steps import PushParams

TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name


def push(spec: Spec, reporter: Reporter) -> Metrics:
    """Create the repository if it is missing and commit the folder spec.base to it. Returns url and commit."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    params, token = PushParams.model_validate(spec.params), os.environ[TOKEN]
    api = HfApi(token=token)
    try:
        api.create_repo(params.repo, private=params.private, exist_ok=True)
        commit = api.upload_folder(repo_id=params.repo, folder_path=spec.base, commit_message="Exported by METEOR")
    except OfflineModeIsEnabled as error:
        raise FatalError("the trainer's TRANSFORMERS_OFFLINE blocks the hub", code="hub_offline") from error
    except HfHubHTTPError as error:
        raise _refused(params.repo, error.response.status_code, str(error).replace(token, "...")) from None
    except (httpx2.HTTPError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".replace(token, "...")
        raise TransientError(f"the hub at {api.endpoint} cannot be reached: {reason}", code="hub_unreachable") from None
    reporter.tick(1, 1)
    return {"url": f"{api.endpoint}/{params.repo}", "commit": commit.oid}


def _refused(repo: str, status: int, reason: str) -> FatalError | TransientError:
    message = f"the hub refuses to take {repo} ({status}): {reason.strip()[:500]}"
    if status == 429 or status >= 500:
        return TransientError(message, code="hub_unreachable")
    return FatalError(message, param="push.repo", code="hub_refused")
