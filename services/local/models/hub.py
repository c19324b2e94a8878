"""The official model hub, when one answers: a short question first, so that a machine without one loses seconds only."""

import sys
from pathlib import Path

import httpx

from services.local.progress import ProgressReport

ANSWER_S = 4.0
WANTED = ["config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*"]
WANTED += ["special_tokens_map.json", "vocab.json", "merges.txt", "chat_template*", "added_tokens.json", "LICENSE*"]


def revision_on_hub(hub_id: str, revision: str | None = None) -> str | None:
    """The commit that the hub would serve, or None when it is switched off, away, or does not have the model.

    Honours HF_ENDPOINT and HF_HUB_OFFLINE.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    path = f"/api/models/{hub_id}" + (f"/revision/{revision}" if revision else "")
    try:
        answer = httpx.get(f"{constants.ENDPOINT}{path}", timeout=ANSWER_S, follow_redirects=True)
        return answer.json()["sha"] if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError, KeyError):
        return None


def download_from_hub(hub_id: str, revision: str, folder: Path, report: ProgressReport) -> None:
    """Fetch weights (safetensors only), config and tokenizer into folder. A broken download goes on where it stopped."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    report.say(f"  fetching {hub_id} at {revision[:12]} from the hub")
    snapshot_download(hub_id, revision=revision, local_dir=folder, allow_patterns=WANTED)
