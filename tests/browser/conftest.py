"""The real API as a process with jobs in every state, and a real browser: one of each for this folder, a tab for each test."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Tab, chromium_or_skip, open_tab
from tests.browser.samples import all_samples
from tests.browser.system import running_system
from tests.contract.conftest import KEY, RunningApi

chromium = pytest.fixture(scope="package")(chromium_or_skip)


@pytest.fixture(scope="package")
def api(chromium: Browser, tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[RunningApi]:
    with running_system(tmp_path_factory.mktemp("api"), _valkey_server) as running:
        yield running


@pytest.fixture(scope="package")
def http(api: RunningApi) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


@pytest.fixture(scope="package")
def ids(api: RunningApi, http: httpx.Client) -> dict[str, str]:
    """Of jobs by state, and of data by what it is."""
    return all_samples(api, http)


@pytest.fixture
def stranger(chromium: Browser, api: RunningApi) -> Iterator[Tab]:
    """A tab without a key, for which nothing may have gone wrong in the end."""
    with open_tab(chromium, api.url) as tab:
        yield tab
        tab.check()


@pytest.fixture
def tab(stranger: Tab) -> Tab:
    """A tab that has a key."""
    stranger.key(KEY)
    return stranger
