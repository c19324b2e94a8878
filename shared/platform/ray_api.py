"""The address of a Ray cluster's Jobs API, and whether it answers as one.

The API is plain HTTP and stable (docs.ray.io, "Ray Jobs REST API"), so no process of ours needs the package `ray`, and its version
does not have to be the cluster's.
"""

from typing import Any, NamedTuple

import httpx

from shared.platform.http_client import internal_sync_client
from shared.platform.http_url import checked_http_url

VERSION, JOBS = "/api/version", "/api/jobs/"
ANSWER_S = 5.0


class Fault(NamedTuple):
    """What is wrong with the cluster's API, and how to mend it."""

    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.fix}"


def checked_address(address: str) -> str:
    """Without its last slash. Raises ValueError for an address of another protocol, or with credentials."""
    form = "write the address of the cluster's dashboard, http://HOST:8265; ray://HOST:10001 and HOST:6379 are other protocols"
    return checked_http_url(address, form, "METEOR_TRAINER_RAY_TOKEN has the token")


def version(address: str, token: str = "") -> str | Fault:
    """Ray's version at an address whose Jobs API answers; else what is wrong."""
    try:
        with internal_sync_client(address, token, timeout_s=ANSWER_S) as client:
            about, jobs = client.get(VERSION), client.get(JOBS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Fault(
            f"the Ray cluster at {address} does not answer: {error or type(error).__name__}",
            "start it (`ray start --head --dashboard-host 0.0.0.0`), or fix METEOR_TRAINER_RAY_ADDRESS",
        )
    for answer in (about, jobs):
        if fault := refusal(address, answer):
            return fault
    told: Any = about.json() if _is_json(about) else None
    if not isinstance(told, dict) or "ray_version" not in told or not _is_json(jobs):
        return Fault(
            f"what answers at {address} is no Ray dashboard", "set METEOR_TRAINER_RAY_ADDRESS to http://HOST:8265"
        )
    return str(told["ray_version"])


def refusal(address: str, answer: httpx.Response) -> Fault | None:
    """What an answer that is no success says."""
    if answer.status_code in (401, 403):
        return Fault(
            f"the Ray cluster at {address} refuses us ({answer.status_code})",
            "set METEOR_TRAINER_RAY_TOKEN to the cluster's RAY_AUTH_TOKEN",
        )
    if answer.is_success:
        return None
    fix = 'install "ray[default]" on the cluster (requirements/ray.lock): plain "ray" has no Jobs API'
    if answer.is_server_error:
        fix = "its log says why: dashboard.log in the head's session folder"
    return Fault(f"the Jobs API at {address} answers with {answer.status_code}", fix)


def _is_json(answer: httpx.Response) -> bool:
    return answer.headers.get("content-type", "").startswith("application/json")
