"""Playground, examples, review and compare, as a person uses them, against the real API."""

import json

import httpx
import pytest

from tests.browser.pages import (
    LOADED,
    SCREENS,
    check_accessible,
    check_layout,
    check_quiet,
    click,
    fill,
    resize,
    shows,
    text_of,
)
from tests.contract.browser import Browser
from tests.contract.conftest import KEY, RunningApi
from tests.fakes.npm import NoNode, node_modules
from tests.unit.test_dashboard import SOURCES

PAGES = (
    "/playground?prompt=hello",
    "/jobs/{traced}/examples",
    "/jobs/{traced}/examples?happened=dropped",
    "/jobs/{traced}/examples?search=nowhere",
    "/jobs/{traced}/examples/{tried}",
    "/jobs/{traced}/examples/{judged}",
    "/jobs/{queued}/examples",
    "/review?job={traced}",
    "/compare?jobs={traced}",
)


@pytest.fixture(scope="session")
def axe() -> str | None:
    """The source of axe-core; None where Node or its packages are not at hand."""
    try:
        _, modules = node_modules(SOURCES)
    except NoNode:
        return None
    return (modules / "axe-core/axe.min.js").read_text()


@pytest.fixture(scope="session")
def places(http: httpx.Client, ids: dict[str, str]) -> dict[str, str]:
    """Ids of jobs by state, an example that was tried in vain, and one that the judge has seen."""
    path = f"/v1/distillation/jobs/{ids['traced']}/outcomes"
    one = lambda happened: http.get(path, params={"happened": happened}).raise_for_status().json()["data"][0]["id"]  # noqa: E731
    return ids | {"tried": one("failed"), "judged": one("turned")}


def go(browser: Browser, api: RunningApi, path: str) -> None:
    browser.open(f"{api.url}/healthz")
    browser.evaluate(f"sessionStorage.setItem('meteor.key', {KEY!r})")
    browser.call("Page.navigate", url=f"{api.url}/ui{path}")
    browser.until(f"location.pathname.startsWith('/ui') && {LOADED}")


@pytest.mark.parametrize("page", PAGES)
def test_a_view_is_in_order(api: RunningApi, places: dict[str, str], browser: Browser, axe: str | None, page: str):
    for width, dark in SCREENS:
        resize(browser, width, dark)
        go(browser, api, page.format_map(places))
        check_layout(browser, width)
        if axe is not None:
            check_accessible(browser, axe)
    check_quiet(browser, api.url)


def test_ten_pairs_are_judged_by_keyboard(api: RunningApi, http: httpx.Client, ids: dict[str, str], browser: Browser):
    before = len(http.get("/v1/labels", params={"limit": 100}).json()["data"])
    go(browser, api, f"/review?job={ids['traced']}")
    keys = ("ArrowLeft", "ArrowRight", "ArrowDown", "1", "2", "0", "ArrowLeft", "ArrowRight", "1", "2")
    browser.until("document.querySelector('pre.question')")
    for number, key in enumerate(keys, start=1):
        press = f"window.dispatchEvent(new KeyboardEvent('keydown', {{key: {json.dumps(key)}, bubbles: true}}))"
        browser.evaluate(press)
        browser.until(f"document.querySelector('#judge').parentElement.innerText.includes('{before + number} labels in this project')", 30)  # fmt: skip
    labels = http.get("/v1/labels", params={"limit": 100}).json()["data"]
    assert len(labels) == before + 10
    measured = http.get(
        f"/v1/distillation/jobs/{ids['traced']}/outcomes", params={"happened": "measured", "limit": 100}
    ).json()["data"]
    pairs = {(row["question"], one["first"], one["second"]) for row in measured for one in row["judged"]}
    assert {(one["question"], one["first"], one["second"]) for one in labels[-10:]} | pairs == pairs
    click(browser, "button", "Take back")
    browser.until(shows(f"{before + 9} labels in this project"), 30)
    check_quiet(browser, api.url)


def test_two_models_answer_side_by_side_and_a_grader_looks(api: RunningApi, browser: Browser, ids: dict[str, str]):
    go(browser, api, "/playground?model=tiny-base")
    fill(browser, "textarea[required]", "think")
    browser.evaluate("document.querySelector('form details').open = true")
    fill(browser, "form select", ids["traced"])
    click(browser, "button", "Ask")
    browser.until(shows("tokens/s"))
    browser.until("[...document.querySelectorAll('button')].some((one) => one.textContent.includes('Check with'))")
    fill(browser, "details textarea:not([required])", "")
    click(browser, "button", "Add to dataset")
    browser.until("document.querySelector('dialog[open]')")
    click(browser, "dialog[open] button", "Add the row")
    browser.until(shows("The new version"), 30)
    assert "Hello" in browser.evaluate(text_of("article pre.text"))
    check_quiet(browser, api.url)


def test_a_job_is_retrained_without_an_example(
    api: RunningApi, http: httpx.Client, places: dict[str, str], browser: Browser
):
    go(browser, api, f"/jobs/{places['traced']}/examples/{places['tried']}")
    click(browser, "button", "Retrain without it")
    click(browser, "dialog[open] button", "Make the fork")
    browser.until(f"location.pathname.startsWith('/ui/jobs/') && !location.pathname.includes({places['traced']!r})", 30)
    fork = browser.evaluate("location.pathname.split('/').pop()")
    job = http.get(f"/v1/distillation/jobs/{fork}").raise_for_status().json()
    assert job["distillation"]["forked_from"]["job_id"] == places["traced"]
    of_fork = f"/v1/distillation/jobs/{fork}/examples/{{}}/lineage"
    assert http.get(of_fork.format(places["tried"])).json()["error"]["code"] == "example_not_found"
    assert http.get(of_fork.format(places["judged"])).status_code == 200
