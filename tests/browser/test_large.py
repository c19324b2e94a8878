"""The first view is light, and a job of 10,000 examples and 50,000 events stays smooth: counted in processor time of the page, its
nodes and the bytes it asks for, which do not depend on what else the machine does."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from playwright.sync_api import CDPSession, Response, expect

from tests.browser.chromium import Tab
from tests.browser.sample_large import EXAMPLES, large
from tests.contract.conftest import RunningApi

MOST_CPU_S = 1.0  # of the page's own thread, until a view stands
MOST_NODES = 6000
MOST_BYTES = 1_500_000


@dataclass
class Load:
    cpu_s: float = 0.0
    nodes: int = 0
    received: dict[str, int] = field(default_factory=dict)  # by address


@contextmanager
def measured(tab: Tab) -> Generator[Load]:
    load = Load()
    session: CDPSession = tab.context.new_cdp_session(tab.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def figures() -> dict[str, float]:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}

    def count(answer: Response) -> None:
        size = answer.header_value("content-length")
        load.received[answer.url] = load.received.get(answer.url, 0) + int(size or 0)

    before = figures()["TaskDuration"]
    tab.page.on("response", count)
    yield load
    tab.page.remove_listener("response", count)
    load.cpu_s = figures()["TaskDuration"] - before
    load.nodes = tab.page.evaluate("() => document.querySelectorAll('*').length")
    session.detach()


@pytest.fixture(scope="module")
def job(api: RunningApi, http: httpx.Client) -> str:
    return large(api, http)


def check(load: Load) -> None:
    assert load.cpu_s < MOST_CPU_S
    assert load.nodes < MOST_NODES
    assert sum(load.received.values()) < MOST_BYTES, load.received


def test_the_first_view_is_light(ids: dict[str, str], tab: Tab):
    assert ids
    with measured(tab) as load:
        tab.go("/")
        expect(tab.page.locator("tbody tr").first).to_be_visible()
    check(load)


def test_a_large_job_is_light(job: str, tab: Tab):
    with measured(tab) as load:
        tab.go(f"/jobs/{job}")
        expect(tab.page.get_by_role("list", name="Events, newest first").get_by_role("listitem").first).to_be_visible()
        expect(tab.page.get_by_text("distill", exact=False).first).to_be_visible()
    check(load)
    with measured(tab) as load:
        older = tab.page.get_by_role("button", name="Show older events")
        shown = tab.page.get_by_role("list", name="Events, newest first").get_by_role("listitem")
        for pages in range(2, 7):
            older.click()
            expect(shown).to_have_count(100 * pages)
    check(load)


def test_its_examples_are_light(job: str, tab: Tab):
    with measured(tab) as load:
        tab.go(f"/jobs/{job}/examples")
        expect(tab.page.locator("tbody tr")).to_have_count(50)
    check(load)
    with measured(tab) as load:
        for pages in range(2, 7):
            tab.page.get_by_role("button", name="Show more").click()
            expect(tab.page.locator("tbody tr")).to_have_count(50 * pages)
        tab.page.get_by_label("Search").fill(f"What is {EXAMPLES - 1} plus")
        expect(tab.page.locator("tbody tr")).to_have_count(1)
    check(load)


def test_its_data_is_light(http: httpx.Client, job: str, tab: Tab):
    file = http.get(f"/v1/distillation/jobs/{job}").json()["training_file"]
    for part in ("", "?part=statistics"):
        with measured(tab) as load:
            tab.go(f"/data/{file}{part}")
        check(load)
