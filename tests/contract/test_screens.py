"""Every page on a telephone and on a wide screen: nothing is cut, and no markup shows as text. Without a browser, by the pages' own words."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from shared.artifacts.store import Artifacts
from shared.contracts.report import Report
from shared.db.engine import writing
from shared.jobs.tables import jobs
from tests.browser.chromium import chromium_or_skip, open_tab
from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.unit.test_report_forms import made

PAGES = ("/docs", "report")  # the dashboard: tests/browser
WIDTHS = (390, 1440)
MODELS = ("base", "few_shot", "sft_references", "distill", "iterate", "evolve")
GRADERS = ("exact_match", "chrf", "token_f1", "rouge_l")
ASKED = {"authorization": f"Bearer {KEY}", "accept": "text/html"}
# What can be pushed aside to be read may be wider than the screen; of a table on a wide screen all of it must stand there.
CUT = """[...document.querySelectorAll('.wide, table, td, th, li, p, h1, h2, h3')]
  .filter((part) => part.scrollWidth > part.clientWidth + 1 && (innerWidth > 1000 || getComputedStyle(part).overflowX === 'hidden'))
  .map((part) => part.tagName + ' ' + part.textContent.slice(0, 60))"""
LABELS_CUT = """[...document.querySelectorAll('svg text')].filter((word) => {
  const own = word.getBoundingClientRect(), plot = word.ownerSVGElement.getBoundingClientRect();
  return own.left < plot.left - 1 || own.right > plot.right + 1 || own.top < plot.top - 1 || own.bottom > plot.bottom + 1;
}).map((word) => word.textContent)"""
LABELS_OVER_ANOTHER = """[...document.querySelectorAll('svg')].flatMap((plot) => {
  const words = [...plot.querySelectorAll('text')].map((word) => [word.textContent, word.getBoundingClientRect()]);
  return words.flatMap(([text, one], n) => words.slice(n + 1)
    .filter(([, other]) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
      && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > one.height / 3)
    .map(([other]) => text + ' over ' + other));
})"""
MARKUP_AS_TEXT = "document.body.innerText.match(/<!--|-->|<\\/?(div|span|p|table)>/g)"


def wide_report() -> dict[str, Any]:
    """With every part that a report may have, every model that a job measures, and four graders."""
    report = made(Report)
    row = report["table"][0] | {"metrics": {name: [0.512, 0.433, 0.601] for name in GRADERS}}
    report["table"] = [row | {"name": name} for name in MODELS]
    report["final"]["name"] = MODELS[-1]
    return report | {"primary_metric": "chrf"}


@pytest.fixture(scope="module")
def paths(api: RunningApi, http: httpx.Client) -> dict[str, str]:
    """Page -> its path."""
    sent: dict[str, Any] = {"files": {"file": ("r.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
    file = http.post("/v1/files", **sent).json()["id"]
    body = {"model": BASE, "training_file": file, "suffix": "screens", "distillation": {"domain": "numbers"}}
    job = http.post("/v1/distillation/jobs", json=body).json()["id"]
    http.post(f"/v1/distillation/jobs/{job}/cancel").raise_for_status()
    reference = Artifacts(api.platform.artifacts).put_json(wide_report())
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job).values(report_ref=reference))
    return {page: page for page in PAGES} | {"report": f"/v1/distillation/jobs/{job}/report"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_laid_out_for_the_screen_that_it_is_on(api: RunningApi, paths: dict[str, str], page: str):
    answer = httpx.get(f"{api.url}{paths[page]}", headers=ASKED, trust_env=False, timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in answer.text
    style, body = re.findall(r"<style>(.*?)</style>(.*)", answer.text, re.DOTALL)[0]
    words = unescape(re.sub(r"<script>.*?</script>|<[^>]+>", " ", body, flags=re.DOTALL))
    assert not re.search(r"<!--|-->", body + words)
    rules = dict(re.findall(r"([^{}]+?)\s*\{([^{}]*)\}", style))
    scrolled = {name.strip() for name, rule in rules.items() if re.search(r"overflow(-x)?: auto", rule)}
    for opening in re.findall(r"(<[^>]+>)\s*<table", body):
        assert "table" in scrolled or any(f'class="{name[1:]}"' in opening for name in scrolled), opening
    fixed = re.findall(r"(?:^|[;{ ])(?:min-)?width: (\d+(?:\.\d+)?)(px|rem)", re.sub(r"@media[^{]*", "", style))
    assert all(float(size) * (16 if unit == "rem" else 1) <= min(WIDTHS) / 2 for size, unit in fixed)


chromium = pytest.fixture(scope="module")(chromium_or_skip)


@pytest.fixture(scope="module")
def screen(chromium: Browser, api: RunningApi) -> Iterator[Page]:
    with open_tab(chromium, api.url, extra_http_headers=ASKED) as tab:
        yield tab.page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_nothing_of_a_page_is_cut(api: RunningApi, paths: dict[str, str], screen: Page, page: str, width: int):
    screen.set_viewport_size({"width": width, "height": 900})
    screen.goto(f"{api.url}{paths[page]}")
    screen.wait_for_selector("h1")
    assert screen.evaluate("innerWidth") == width
    assert screen.evaluate("document.documentElement.scrollWidth") <= width
    assert screen.evaluate("document.querySelectorAll('svg text').length > 20") is (page == "report")
    for script in (CUT, LABELS_CUT, LABELS_OVER_ANOTHER):
        assert screen.evaluate(script) == [], script
    assert screen.evaluate(MARKUP_AS_TEXT) is None
