"""A job is watched and steered in a browser, through refused keys, hostile texts and an API that is away."""

import re

import httpx
import pytest
from playwright.sync_api import Locator, Route, expect

from shared.artifacts.store import Artifacts
from tests.browser.chromium import NARROW, Tab
from tests.browser.hostile import HOSTILE, MARKUP
from tests.browser.pages import check_layout
from tests.browser.sample_jobs import job_of, running, set_job, uploaded
from tests.browser.sample_report import sample_report
from tests.contract.conftest import KEY, RunningApi


@pytest.fixture
def job_id(api: RunningApi, http: httpx.Client) -> str:
    made = running(api, http, uploaded(http), "watched")
    set_job(api, made, status_reason=HOSTILE)
    return made


def events(tab: Tab, text: str) -> Locator:
    return tab.page.get_by_role("list", name=re.compile("^Events")).get_by_role("listitem").filter(has_text=text)


def test_a_job_is_watched_and_steered(api: RunningApi, job_id: str, stranger: Tab):
    page = stranger.page
    stranger.expect("401")
    page.goto(f"{api.url}/#{job_id}")  # as links of earlier releases name it
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("heading", name="This key is refused")).to_be_visible()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("watched")
    assert page.url == f"{api.url}/ui/jobs/{job_id}"

    expect(page.get_by_text("10 to 17 minutes left")).to_be_visible()
    expect(page.get_by_text("iterate, round 2 of 3, 57 %")).to_be_visible()
    expect(page.get_by_text("$0.00 of $5.00")).to_be_visible()
    expect(page.get_by_text(MARKUP).first).to_be_visible()
    expect(page.get_by_role("progressbar", name="Progress of watched")).to_have_attribute("aria-valuenow", "57")
    for level in ("info", "error"):  # each comes by the stream, and once
        api.stores.jobs.add_event(job_of(api, job_id), f"new {level} {HOSTILE}", level=level)
        expect(events(stranger, f"new {level}")).to_have_count(1)

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Not now").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("pausing").first).to_be_visible()

    report = Artifacts(api.platform.artifacts).put_json(sample_report(job_id))
    set_job(api, job_id, status="succeeded", phase=None, report_ref=report, status_reason=None)
    expect(page.get_by_text("Every model on 80 test questions")).to_be_visible()
    for move in ("Pause", "Resume", "Cancel"):
        expect(page.get_by_role("button", name=move, exact=True)).to_have_count(0)
    assert page.evaluate("() => localStorage.length + document.cookie.length") == 0
    assert KEY not in page.url
    with stranger.context.expect_page() as opened:  # the page that only the key could fetch, with its style
        page.get_by_role("button", name="The whole report").click()
    styled = opened.value.locator("table").first
    expect(styled).to_have_css("border-collapse", "collapse")
    stranger.show(NARROW)
    check_layout(stranger)


def test_an_api_that_is_away_is_said_and_asked_again(api: RunningApi, job_id: str, tab: Tab):
    tab.expect("ERR_INTERNET_DISCONNECTED")
    tab.go(f"/jobs/{job_id}")
    expect(tab.page.locator(".dot.live")).to_be_visible()
    tab.context.set_offline(True)
    expect(tab.page.get_by_text("The API does not answer")).to_have_count(1)
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("watched")
    api.stores.jobs.add_event(job_of(api, job_id), "told while nobody listened")
    tab.context.set_offline(False)
    expect(tab.page.get_by_text("The API does not answer")).to_have_count(0)
    expect(events(tab, "told while nobody listened")).to_have_count(1)
    expect(events(tab, "job queued")).to_have_count(1)


def test_an_api_that_goes_away_as_the_state_changes_takes_nothing_off_the_page(api: RunningApi, job_id: str, tab: Tab):
    """Every further read of the job fails: what the page has is kept beside one banner."""
    tab.expect("ERR_FAILED")
    tab.go(f"/jobs/{job_id}")
    stages = tab.page.get_by_label("Status", exact=True).get_by_role("listitem")
    expect(stages).not_to_have_count(0)
    expect(tab.page.get_by_role("heading", name="Spend")).to_be_visible()
    shown = stages.all_inner_texts()
    refused: set[str] = set()

    def refuse(route: Route) -> None:
        refused.add(route.request.url.partition(job_id)[2].partition("?")[0])
        route.abort()

    tab.page.route(re.compile(rf"jobs/{job_id}/(steps|metrics|usage)"), refuse)
    set_job(api, job_id, status="pausing")
    expect(tab.page.get_by_text("pausing").first).to_be_visible()
    refused.clear()
    for _ in range(100):
        if len(refused) == 3:
            break
        tab.page.wait_for_timeout(100)
    assert refused == {"/steps", "/metrics", "/usage"}
    for _ in range(20):  # what failed is asked again all the time: a notice would come and go
        assert tab.page.get_by_role("alert").all_inner_texts() == []
        tab.page.wait_for_timeout(100)
    assert stages.all_inner_texts() == shown


def test_it_is_used_by_keyboard(ids: dict[str, str], tab: Tab):
    assert ids
    tab.go("/")
    expect(tab.page.locator("tbody tr").nth(3)).to_be_visible()
    press = tab.page.keyboard.press
    press("Tab")
    expect(tab.page.locator(":focus")).to_have_text("Skip to the content")
    press("Enter")
    expect(tab.page.locator("#main")).to_be_focused()
    for _ in range(5):  # a filter, two links, the table itself, its first link
        press("Tab")
    expect(tab.page.locator("tbody a:focus")).to_have_count(1)
    press("Enter")
    tab.page.wait_for_url("**/ui/jobs/ftjob-*")
    expect(tab.page.locator("#main")).to_be_focused()


def test_what_a_key_has_shown_goes_with_it(ids: dict[str, str], stranger: Tab):
    stranger.expect("401")
    page = stranger.page
    stranger.go(f"/jobs/{ids['running']}")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shell-next")
    page.get_by_role("button", name="Forget the API key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("An API key is needed")
    expect(page.get_by_text("shell-next")).to_have_count(0)
    assert page.evaluate("() => sessionStorage.length + localStorage.length") == 0
