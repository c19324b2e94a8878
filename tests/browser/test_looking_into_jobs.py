"""Examples, review, models and playground as a person uses them. tests/e2e/test_dashboard.py does the same with real models."""

import re

import httpx
from playwright.sync_api import expect

from tests.browser import flows
from tests.browser.chromium import Tab
from tests.browser.hostile import HOSTILE, MARKUP
from tests.browser.pages import check_layout
from tests.contract.conftest import BASE


def test_an_example_is_followed_and_left_out_of_a_fork(ids: dict[str, str], http: httpx.Client, tab: Tab):
    flows.follow_an_example(tab, ids["traced"], "passed", "plus")
    page = tab.page
    expect(page.get_by_role("heading", name=re.compile("^iterate"))).to_be_visible()
    expect(page.get_by_role("heading", name="Learned", exact=False).first).to_be_visible()
    example = page.url.rpartition("/")[2]
    page.get_by_role("button", name="Retrain without it").click()
    page.get_by_role("dialog").get_by_role("button", name="Make the fork").click()
    page.wait_for_url(lambda url: ids["traced"] not in url)
    fork = http.get(f"/v1/distillation/jobs/{page.url.rpartition('/')[2]}").raise_for_status().json()
    assert fork["distillation"]["forked_from"]["job_id"] == ids["traced"]
    of_fork = http.get(f"/v1/distillation/jobs/{fork['id']}/examples/{example}/lineage")
    assert of_fork.json()["error"]["code"] == "example_not_found"


def test_ten_pairs_are_judged_by_keyboard(ids: dict[str, str], http: httpx.Client, tab: Tab):
    flows.judge_ten_pairs(tab, http, ids["traced"])


def test_models_are_asked_rated_and_corrected(ids: dict[str, str], http: httpx.Client, tab: Tab):
    assert ids
    first, second = flows.ask_two(tab, (BASE, "sums"), f"What is 1 plus 1? {HOSTILE}")
    flows.rate_good(first)
    flows.correct(second, f"2 {MARKUP}")
    given = flows.feedback(http)
    assert "up" in {one["rating"] for one in given}
    assert f"2 {MARKUP}" in {one["correction"] for one in given}
    check_layout(tab)
    first.get_by_role("button", name="Add to dataset").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Add the row").click()
    expect(tab.page.get_by_text("The new version")).to_be_visible()


def test_a_version_is_promoted_by_hand(ids: dict[str, str], http: httpx.Client, tab: Tab):
    assert ids
    tab.go("/models/shell")
    flows.promote(tab, "shell", 2)
    assert http.get("/v1/models/shell").json()["version"] == 2


def test_a_fork_takes_over_what_is_done(ids: dict[str, str], http: httpx.Client, tab: Tab):
    tab.go(f"/jobs/{ids['finished']}")
    made = flows.fork(tab, ids["finished"])
    job = http.get(f"/v1/distillation/jobs/{made}").raise_for_status().json()
    assert job["distillation"]["forked_from"]["job_id"] == ids["finished"]
