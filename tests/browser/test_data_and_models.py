"""Data, models, spend and system: each view at both widths with axe, and what a person does there."""

import httpx
import pytest

from tests.browser.pages import LOADED, WIDTHS, check_accessible, check_layout, check_quiet, click, fill, resize, shows
from tests.contract.browser import Browser
from tests.contract.conftest import KEY, RunningApi
from tests.fakes.npm import NoNode, node_modules
from tests.unit.test_dashboard import SOURCES

PAGES = (
    "/data",
    "/data?add=import",
    "/data/{dataset}",
    "/data/{dataset}?part=statistics",
    "/data/{dataset}?part=versions",
    "/data/{bad_file}",
    "/data/{raw_file}",
    "/models",
    "/models/shell",
    "/spend",
    "/spend?by=outcome",
    "/system",
)


@pytest.fixture(scope="module")
def axe_source() -> str | None:
    """None where Node or its packages are not at hand."""
    try:
        _, modules = node_modules(SOURCES)
    except NoNode:
        return None
    return (modules / "axe-core/axe.min.js").read_text()


def _signed_in(browser: Browser, api: RunningApi, path: str, key: str = KEY) -> None:
    browser.open(f"{api.url}/healthz")
    browser.evaluate(f"sessionStorage.setItem('meteor.key', {key!r})")
    browser.call("Page.navigate", url=f"{api.url}/ui{path}")
    browser.until(f"location.pathname.startsWith('/ui') && {LOADED}")


@pytest.mark.parametrize("page", PAGES)
def test_a_view_is_in_order(api: RunningApi, ids: dict[str, str], browser: Browser, axe_source: str | None, page: str):
    path = page.format_map(ids)
    _signed_in(browser, api, path)
    for width in WIDTHS:
        for dark in (False, True):
            resize(browser, width, dark)
            browser.call("Page.navigate", url=f"{api.url}/ui{path}")
            browser.until(f"location.pathname.startsWith('/ui') && {LOADED}")
            check_layout(browser, width)
            if axe_source is not None:
                check_accessible(browser, axe_source)
    check_quiet(browser, api.url, len(browser.events))  # a browser tells of each 404 and 503, which are states here
    assert [*browser.told("Runtime.exceptionThrown")] == []


def test_an_edited_row_becomes_a_version(api: RunningApi, http: httpx.Client, ids: dict[str, str], browser: Browser):
    _signed_in(browser, api, f"/data/{ids['first_version']}")
    click(browser, "ol li button", "Edit")
    fill(browser, "dialog textarea", "How do I list every file?")
    click(browser, "dialog button", "Keep for the next version")
    browser.until(shows("1 row edited"))
    click(browser, "button", "Store as the next version")
    browser.until(f"{shows('1 changed')} && {shows('How do I list every file?')}", 60)
    versions = http.get(f"/v1/files/{ids['first_version']}/versions").json()["data"]
    assert versions[0]["previous"] == ids["first_version"]
    difference = http.get(f"/v1/files/{versions[0]['id']}/diff").json()
    assert [change["after"]["question"] for change in difference["data"]] == ["How do I list every file?"]


def test_a_version_is_promoted_and_rolled_back(
    api: RunningApi, http: httpx.Client, ids: dict[str, str], browser: Browser
):
    _signed_in(browser, api, "/models/shell")
    click(browser, "td button", "Promote")
    click(browser, "dialog button", "Promote")
    browser.until(shows("version 3 is served"), 60)
    assert http.get("/v1/models/shell").json()["version"] == 3
    click(browser, "button", "Roll back")
    click(browser, "dialog button", "Roll back")
    browser.until(shows("version 1 is served"), 60)
    assert http.get("/v1/models/shell").json()["version"] == 1


def test_spend_and_system_are_for_their_scopes(api: RunningApi, http: httpx.Client, browser: Browser):
    key = http.post("/v1/keys", json={"name": "no admin", "scopes": ["jobs", "files"]}).raise_for_status().json()["key"]
    _signed_in(browser, api, "/spend", key)
    browser.until(shows("This key may not see this"))
    browser.call("Page.navigate", url=f"{api.url}/ui/system")
    browser.until(f"{shows('Parts')} && {shows('to see')}")
