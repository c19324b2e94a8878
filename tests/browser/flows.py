"""What a person does on the pages, from one click to the next. Each ends where the page says that it is done."""

import re

import httpx
from playwright.sync_api import Locator, expect

from tests.browser.chromium import Tab
from tests.browser.pages import check_accessible, check_layout

KEYS = ("ArrowLeft", "ArrowRight", "ArrowDown", "1", "2", "0", "1", "2", "1", "2")


def told(tab: Tab, text: str) -> Locator:
    """Events of the job that is shown which hold the text."""
    return tab.page.get_by_role("list", name=re.compile("^Events")).get_by_role("listitem").filter(has_text=text)


def judge_ten_pairs(tab: Tab, http: httpx.Client, job: str) -> None:
    """By keyboard alone; the eleventh key takes the last judgement back."""

    def labels() -> list[dict[str, str]]:
        return http.get("/v1/labels", params={"limit": 100}).raise_for_status().json()["data"]

    known = {one["id"] for one in labels()}
    before = len(known)
    tab.go(f"/review?job={job}")
    expect(tab.page.get_by_label("Pair to judge")).to_be_visible()
    for number, key in enumerate(KEYS, start=1):
        tab.page.keyboard.press(key)
        expect(tab.page.get_by_text(f"{before + number} labels in this project")).to_be_visible()
    given = [one for one in labels() if one["id"] not in known]
    assert len(given) == len(KEYS)
    assert {"first", "second", "tie"} >= {one["preferred"] for one in given} >= {"tie"}
    assert len({(one["question"], *sorted((one["first"], one["second"]))) for one in given}) == len(given)
    tab.page.keyboard.press("u")
    expect(tab.page.get_by_text(f"{before + len(KEYS) - 1} labels in this project")).to_be_visible()
    check_layout(tab)
    check_accessible(tab)


def ask_two(tab: Tab, models: tuple[str, str], prompt: str) -> tuple[Locator, Locator]:
    """Their answers, once both have been written and can be rated."""
    tab.go(f"/playground?model={','.join(models)}")
    tab.page.get_by_label("Prompt").fill(prompt)
    tab.page.get_by_role("button", name="Ask 2 models").click()
    first, second = (tab.page.get_by_label(f"Answer of {model}", exact=True) for model in models)
    for answer in (first, second):
        expect(answer.get_by_text("tokens/s")).to_be_visible()
        expect(answer.get_by_role("button", name="Good")).to_be_enabled()
    return first, second


def rate_good(answer: Locator) -> None:
    answer.get_by_role("button", name="Good").click()
    expect(answer.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")


def correct(answer: Locator, better: str) -> None:
    answer.get_by_role("button", name="Better answer").click()
    answer.get_by_label("What it should have said").fill(better)
    answer.get_by_role("button", name="Store the better answer").click()
    expect(answer.get_by_text("The better answer is stored")).to_be_visible()


def feedback(http: httpx.Client) -> list[dict[str, str | None]]:
    return http.get("/v1/feedback", params={"limit": 10}).raise_for_status().json()["data"]


def promote(tab: Tab, alias: str, version: int) -> None:
    """On the page of the alias, which is shown."""
    tab.page.get_by_role("button", name=f"Promote {alias}@{version}").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(tab.page.get_by_role("row", name=f"{alias}@{version}").get_by_text(f"served as {alias}")).to_be_visible()


def fork(tab: Tab, job: str) -> str:
    """Of the job that is shown, without any change. The id of the new job, whose page is shown then."""
    tab.page.get_by_role("button", name="Fork").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Fork", exact=True).click()
    tab.page.wait_for_url(lambda url: "/ui/jobs/" in url and job not in url)
    return tab.page.url.rpartition("/")[2]


def follow_an_example(tab: Tab, job: str, happened: str, text: str) -> None:
    """From the job over the list of its examples to one of them."""
    tab.go(f"/jobs/{job}")
    tab.page.get_by_role("link", name="Examples", exact=True).click()
    tab.page.get_by_label("What became of it").select_option(happened)
    tab.settle()
    tab.page.locator("tbody a.question").filter(has_text=text).first.click()
    expect(tab.page.get_by_role("heading", name="Question", exact=True)).to_be_visible()
