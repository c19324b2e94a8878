"""Artifacts, uploads and checkpoints as the settings place them: in the data folder, or below METEOR_ARTIFACTS_URL."""

from shared.artifacts.objects import Objects
from shared.artifacts.remote import Remote
from shared.artifacts.store import Artifacts
from shared.artifacts.uploads import Uploads
from shared.platform.settings import PlatformSettings

ARTIFACTS, UPLOADS, CHECKPOINTS = "artifacts", "files", "checkpoints"  # folders below the URL
OF_UPLOADS = 0.25  # of the cache


def open_artifacts(settings: PlatformSettings) -> Artifacts:
    if not settings.artifacts_url:
        return Artifacts(settings.artifacts, settings.disk_floor)
    most = int(settings.artifacts_cache * (1 - OF_UPLOADS))
    return Artifacts(settings.artifacts, settings.disk_floor, remote_of(settings, ARTIFACTS), most)


def open_uploads(settings: PlatformSettings) -> Uploads:
    if not settings.artifacts_url:
        return Uploads(settings.files)
    most = int(settings.artifacts_cache * OF_UPLOADS)
    remote = remote_of(settings, UPLOADS)
    return Uploads(settings.files, Artifacts(settings.data / "cache" / "files", settings.disk_floor, remote, most))


def remote_of(settings: PlatformSettings, folder: str) -> Remote:
    return Remote(Objects(settings.artifacts_url), folder)


def checkpoints_of(settings: PlatformSettings, step_id: str, attempt: int) -> Remote:
    """Of one attempt of a step: two attempts at once must not remove each other's."""
    return remote_of(settings, f"{CHECKPOINTS}/{step_id}/{attempt}")


def checkpoints_of_all(settings: PlatformSettings, step_id: str = "") -> list[Remote]:
    """Of every attempt (of one step) that left some."""
    objects, above = Objects(settings.artifacts_url), f"{CHECKPOINTS}/{step_id}".rstrip("/")
    folders = {"/".join(item.key.split("/")[:3]) for item in objects.list(above)}
    return [Remote(objects, folder) for folder in sorted(folders)]
