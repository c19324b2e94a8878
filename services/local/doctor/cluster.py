"""The Ray cluster on which the trainer starts its steps, where METEOR_TRAINER_LAUNCHER names one."""

from collections.abc import Iterator

from services.local.doctor.finding import Finding, Installation, fail, ok
from shared.platform import ray_api

NAME = "ray"


def ray(installation: Installation) -> Iterator[Finding]:
    """Its Jobs API, asked as the trainer asks it; what its machines need to reach the artifacts."""
    given = installation.environment
    if given.get("METEOR_TRAINER_LAUNCHER") != "ray":
        return
    try:
        address = ray_api.checked_address(given.get("METEOR_TRAINER_RAY_ADDRESS", ""))
    except ValueError as error:
        yield fail(NAME, "METEOR_TRAINER_RAY_ADDRESS is not the address of a dashboard", str(error))
        return
    if not installation.platform.artifacts_url:
        yield fail(
            NAME,
            "METEOR_ARTIFACTS_URL is not set: the cluster's machines do not see this data folder",
            "set it to s3://..., or to file://... for a folder that is mounted on all of them",
        )
    told = ray_api.version(address, given.get("METEOR_TRAINER_RAY_TOKEN", ""))
    if isinstance(told, ray_api.Fault):
        yield fail(NAME, told.reason, told.fix)
    else:
        yield ok(NAME, f"{address} answers, Ray {told}")
