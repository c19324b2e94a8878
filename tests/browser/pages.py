"""The views of the dashboard with the states that they have, and what is asked of every page."""

import json

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.chromium import NARROW, WIDE, Tab

# Paths below /ui. In braces: ids of the sample jobs by state, and of the sample data by what they are.
VIEWS = (
    "/",
    "/?status=failed",
    "/recipes",
    "/recipes?job={finished}",
    "/jobs/{running}",
    "/jobs/{finished}",
    "/jobs/{failed}",
    "/jobs/{paused}",
    "/jobs/{queued}",
    "/jobs/new",
    "/jobs/new?file={file}",
    "/jobs/{traced}/examples",
    "/jobs/{traced}/examples?happened=dropped",
    "/jobs/{traced}/examples?search=nowhere",
    "/jobs/{queued}/examples",
    "/jobs/{traced}/examples/{tried}",
    "/jobs/{traced}/examples/{judged}",
    "/data",
    "/data/{dataset}",
    "/data/{dataset}?part=statistics",
    "/data/{dataset}?part=versions",
    "/data/{bad_file}",
    "/data/file-nobody",
    "/models",
    "/models/shell",
    "/playground?prompt=hello",
    "/review?job={traced}",
    "/review?job={finished}",
    "/compare",
    "/compare?jobs={traced},{finished}",
    "/spend",
    "/system",
    "/nowhere",
)
# The buttons that open a dialog, by the view that has them. The export of a version opens with its address.
DIALOGS: dict[str, tuple[str, ...]] = {
    "/jobs/{running}": ("Budget", "Fork", "Cancel"),
    "/jobs/{traced}/examples/{tried}": ("Retrain without it",),
    "/data/{dataset}": ("Add a row", "Edit row-1", "Delete"),
    "/models/shell": ("Promote shell@3", "Delete shell@3", "Delete", "Export shell@3"),
    "/recipes": ("Delete",),
}
SCREENS = ((NARROW, "light"), (WIDE, "dark"))
ALL_SCREENS = tuple((size, theme) for size in (NARROW, WIDE) for theme in ("light", "dark"))
SERIOUS = ("critical", "serious")
CUT = """() => [...document.querySelectorAll('table, td, th, li, p, h1, h2, h3, dd, label, button')]
  .filter((part) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth && getComputedStyle(part).overflowX === 'hidden'
    && !part.closest('.visually-hidden, caption, .plot') && getComputedStyle(part).webkitLineClamp === 'none')
  .map((part) => part.tagName + ' ' + part.textContent.slice(0, 60))"""
# What stands out of its box to the right, with no box around it that scrolls: it lies over its neighbour or is lost.
SPILLED = """() => {
  const scrolls = (part) => part && (getComputedStyle(part).overflowX !== 'visible' || scrolls(part.parentElement))
  return [...document.querySelectorAll('main *')]
    .filter((part) => part.getBoundingClientRect().right > innerWidth + 1 && part.getClientRects().length && !scrolls(part.parentElement))
    .map((part) => part.tagName + ' ' + part.textContent.slice(0, 60))
}"""
# A table that must be scrolled sideways: a column of it is cut.
SCROLLED = """() => [...document.querySelectorAll('.table')].filter((part) => part.scrollWidth > part.clientWidth + 1)
  .map((part) => part.getAttribute('aria-label'))"""
MARKUP_AS_TEXT = (
    "() => document.body.innerText.match(/<!--|-->|<\\/?(div|span|p|table)>|\\[object Object\\]|undefined|NaN/g)"
)
LINKS_THAT_RUN = """() => [...document.querySelectorAll('[href], [src], [action]')].map((one) => one.href ?? one.src ?? one.action)
  .filter((address) => /^\\s*(javascript|vbscript|data:text)/i.test(address))"""


# What is pressed or typed into measures at least 24 pixels (WCAG 2.5.8), links within a sentence excepted.
SMALL_TARGETS = """() => [...document.querySelectorAll(':is(main, header) :is(a, button, input, select, textarea, summary)')]
  .filter((part) => {
    const { width, height } = part.getBoundingClientRect()
    const inSentence = getComputedStyle(part).display === 'inline' && part.parentElement.textContent.trim() !== part.textContent.trim()
    return part.getClientRects().length && Math.min(width, height) < 24 && !inSentence && !part.closest('.visually-hidden, label.choice')
  })
  .map((part) => part.tagName + ' ' + part.textContent.trim().slice(0, 60))"""


def check_layout(tab: Tab) -> None:
    """Nothing is wider than the screen, cut, spilled or too small to be hit; no markup or lost value shows as text; no link runs a
    script."""
    tab.drawn()
    width = (tab.page.viewport_size or WIDE)["width"]
    assert tab.page.evaluate("() => document.documentElement.scrollWidth") <= width, tab.page.evaluate(SPILLED)
    for script in (CUT, SPILLED, SCROLLED, SMALL_TARGETS, MARKUP_AS_TEXT, LINKS_THAT_RUN):
        seen = tab.page.evaluate(script)
        assert not seen, f"{script}\n{seen}"


def check_accessible(tab: Tab, within: str | None = None) -> None:
    """axe finds nothing critical or serious. within: a selector of the part that is looked at."""
    violations = Axe().run(tab.page, context=within).response["violations"]
    serious = [
        {"id": one["id"], "at": [f"{node['html'][:160]} {node['failureSummary'][:200]}" for node in one["nodes"]]}
        for one in violations
        if one["impact"] in SERIOUS
    ]
    assert serious == [], json.dumps(serious, indent=1)


def drop(page: Page, name: str, content: str) -> None:
    """As a person drags a file onto the page."""
    held = page.evaluate_handle(
        "([name, content]) => { const held = new DataTransfer(); held.items.add(new File([content], name)); return held }",
        [name, content],
    )
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": held})
