"""Everything that the views can show, in one system."""

import httpx

from tests.browser.sample_data import more_of_everything
from tests.browser.sample_jobs import one_of_each
from tests.contract.conftest import RunningApi


def all_samples(api: RunningApi, http: httpx.Client) -> dict[str, str]:
    """Ids: of jobs by state, of data by what it is, of an example that was tried in vain and of one that the judge has seen."""
    made = one_of_each(api, http)
    made |= more_of_everything(api, http, made)

    def first(happened: str) -> str:
        path = f"/v1/distillation/jobs/{made['traced']}/outcomes"
        return http.get(path, params={"happened": happened}).raise_for_status().json()["data"][0]["id"]

    return made | {"tried": first("failed"), "judged": first("turned")}
