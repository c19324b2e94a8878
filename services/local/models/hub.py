"""The official model hub: whether it answers, whether we may have the model, and its files.

A short question first, so that a machine without a hub loses seconds only. Honours HF_ENDPOINT, HF_HUB_OFFLINE, and the token of
HF_TOKEN or `hf auth login`.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import httpx

from services.local.models.folder import ModelRefused
from services.local.progress import ProgressReport
from shared.contracts.errors import TransientError
from shared.platform.http_client import sync_client

ANSWER_S = 4.0
SMALL = ["config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt"]
SMALL += ["chat_template*", "added_tokens.json", "*.safetensors.index.json", "LICENSE*", "tekken.json", "spiece.model"]
WANTED = [*SMALL, "*.safetensors"]
LOGIN = "set HF_TOKEN, or run `hf auth login`"


class HubAway(TransientError):
    """No hub answers, or it is switched off."""

    code = "hub_away"


class HubModel(NamedTuple):
    """What the hub would serve. files: names in the repository."""

    hub_id: str
    revision: str
    files: tuple[str, ...]


def ask_hub(hub_id: str) -> HubModel:
    """Raises HubAway, ModelRefused (with the hub's own words, and what to do), TransientError (busy)."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubAway("HF_HUB_OFFLINE is set, so the hub is not asked")
    endpoint, token = constants.ENDPOINT, get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        with sync_client(endpoint, headers, timeout=ANSWER_S) as client:
            client.follow_redirects = True
            answer = client.get(f"{endpoint}/api/models/{hub_id}")
            _check(answer, hub_id, endpoint, bool(token))
            info = answer.json()
            names = tuple(file["rfilename"] for file in info.get("siblings") or [])
            model = HubModel(hub_id, info["sha"], names)
            if "config.json" in names:  # what everybody may read about a gated model, its files may still refuse
                file = client.head(f"{endpoint}/{hub_id}/resolve/{model.revision}/config.json")
                _check(file, hub_id, endpoint, bool(token))
    except httpx.HTTPError as error:
        raise HubAway(f"no hub answers at {endpoint}: {error or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise HubAway(f"what answers at {endpoint} is no model hub: {error!r}") from error
    _check_weights(model)
    return model


def _check(answer: httpx.Response, hub_id: str, endpoint: str, has_token: bool) -> None:
    """Raises what a refusal means: the hub says 401 for a private repository, a gated one and a misspelt name alike."""
    if answer.status_code < httpx.codes.BAD_REQUEST:
        return
    words = _words(answer)
    code, page = answer.headers.get("x-error-code", ""), f"{endpoint}/{hub_id}"
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.status_code >= 500:
        again = answer.headers.get("retry-after")
        advice = f"; try again in {again} s" if again else "; try again later"
        more = "" if has_token else f", or {LOGIN}, which has a limit of its own"
        raise TransientError(
            f"the hub answers {answer.status_code} for {hub_id}: {words}{advice}{more}", code="hub_busy"
        )
    if code == "GatedRepo":
        who = "the account of your token" if has_token else f"your account, then {LOGIN}"
        raise ModelRefused(f"{hub_id} is gated: {words}. Accept its licence at {page} with {who}", code="model_gated")
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND, httpx.codes.FORBIDDEN):
        if has_token and answer.status_code == httpx.codes.UNAUTHORIZED and code != "RepoNotFound":
            raise ModelRefused(f"the hub refuses the token: {words}. Make a new one and {LOGIN}", code="hub_token")
        if has_token:
            advice = f"Is the name right? A private repository needs a token that may read it; see {page}"
        else:
            advice = f"Is the name right? A private or gated repository needs a token: {LOGIN}; see {page}"
        raise ModelRefused(f"the hub does not give {hub_id}: {words}. {advice}", code="model_not_on_hub")
    raise ModelRefused(f"the hub refuses {hub_id} ({answer.status_code}): {words}; see {page}")


def _words(answer: httpx.Response) -> str:
    """The hub's own, without the stop at their end."""
    words = answer.headers.get("x-error-message", "")
    if not words and answer.request.method != "HEAD":
        try:
            words = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            words = answer.text[:200]
    return (words or answer.reason_phrase or str(answer.status_code)).strip().rstrip(".")


def _check_weights(model: HubModel) -> None:
    if any(name.endswith(".safetensors") and "/" not in name for name in model.files):
        return
    others = sorted(
        {name.rpartition(".")[2] for name in model.files if name.endswith((".bin", ".gguf", ".pt", ".pth"))}
    )
    if "adapter_config.json" in model.files:
        raise ModelRefused(f"{model.hub_id} is a LoRA adapter, not a model: name its base, or a merged model")
    has = f"; it has .{', .'.join(others)} files" if others else ""
    raise ModelRefused(
        f"{model.hub_id} has no safetensors{has}. Only safetensors are loaded: name a repository that has them"
    )


def download_from_hub(model: HubModel, folder: Path, report: ProgressReport, patterns: list[str] = WANTED) -> None:
    """Fetch what patterns name into folder. A broken download goes on where it stopped. Raises TransientError,
    ModelRefused."""
    import httpx2  # huggingface_hub's client
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    report.say(f"  fetching {model.hub_id} at {model.revision[:12]} from the hub")
    try:
        snapshot_download(
            model.hub_id,
            revision=model.revision,
            local_dir=folder,
            allow_patterns=patterns,
            endpoint=constants.ENDPOINT,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx2.HTTPError) as error:
        words = str(getattr(error, "server_message", "") or error).strip().splitlines()[0]
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404):
            raise ModelRefused(f"the hub does not give a file of {model.hub_id} ({status}): {words}") from error
        raise TransientError(
            f"{model.hub_id} could not be fetched whole: {words}; the next try goes on where this one stopped",
            code="hub_broke_off",
        ) from error
