"""Headers between the services and the strong-model gateway: for whom a call is made, and which call answered."""

from urllib.parse import quote

STEP_HEADER = "x-meteor-step"
ORIGIN_HEADERS = ("x-meteor-project", "x-meteor-job", STEP_HEADER, "x-meteor-phase")
EXAMPLE_HEADER = "x-meteor-example"
CLIENT_HEADER = "x-meteor-client"  # tells two attempts of one step apart: each cancels its own calls only
SAMPLE_HEADER = "x-meteor-sample"  # which of several answers to one request is wanted, where it names no seed
BATCH_HEADER = "x-meteor-batch"  # "1": by the provider's batch API, for less money and later
CALL_HEADER = "x-meteor-call"
CACHE_HEADER = "x-meteor-cache"


def origin_headers(project_id: str, job_id: str, step_id: str, phase: str) -> dict[str, str]:
    """For whom calls are made, as the ledger records it. Values are percent-encoded: headers hold ASCII only."""
    values = (project_id, job_id, step_id, phase)
    return {name: quote(value) for name, value in zip(ORIGIN_HEADERS, values, strict=True)}
