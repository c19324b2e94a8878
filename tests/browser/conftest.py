"""The real API as a process with jobs in every state, and a real browser."""

from collections.abc import Iterator

import httpx
import pytest

from tests.browser.sample_data import more_of_everything
from tests.browser.sample_jobs import one_of_each
from tests.browser.system import running_system
from tests.contract.browser import CHROMIUM, Browser, running_browser
from tests.contract.conftest import KEY, RunningApi


@pytest.fixture(scope="session")
def broker(_valkey_server: str) -> str:
    return _valkey_server


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, broker: str) -> Iterator[RunningApi]:
    with running_system(tmp_path_factory.mktemp("api"), broker) as running:
        yield running


@pytest.fixture(scope="session")
def http(api: RunningApi) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


@pytest.fixture(scope="session")
def ids(api: RunningApi, http: httpx.Client) -> dict[str, str]:
    """Of jobs by state, and of data by what it is."""
    made = one_of_each(api, http)
    return made | more_of_everything(api, http, made)


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    with running_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running
