"""Chromium, driven by Playwright, and a tab of it that tells what went wrong on a page."""

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "no Chromium on the PATH (on Debian: apt-get install chromium)"
PATIENCE_MS = 60_000  # a busy machine is slow; that is no failure
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# Refusals that the views expect and show: no such file, no folder of the student, no canary, steps whose files have
# expired, a worker that is away.
HANDLED = ("/v1/files/file-nobody", "/preview", "/capabilities", "/canary", "/outcomes?", "/readyz")
# Each violation of the content policy is told, whoever caused it.
TELL_VIOLATIONS = """addEventListener('securitypolicyviolation', (told) =>
  violated(`${told.effectiveDirective} ${told.blockedURI} ${told.sample}`.trim()))"""
TWO_FRAMES = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"


@contextmanager
def running_chromium() -> Generator[Browser]:
    """While it runs no event loop can be started in this thread: async tests come before it or after it."""
    assert CHROMIUM is not None, NO_CHROMIUM
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0, timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


def chromium_or_skip() -> Iterator[Browser]:
    """The fixture `chromium`: one browser for a folder or a module."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with running_chromium() as browser:
        yield browser


@dataclass
class Tab:
    """A page without any state of others. owned: scripts of texts that ran. `check` fails if anything went wrong on it."""

    context: BrowserContext
    page: Page
    origin: str
    owned: list[Any] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = HANDLED

    def expect(self, *complaints: str) -> None:
        """Complaints that hold one of these words are no fault: a refused key, an API that is away."""
        self.expected += complaints

    def key(self, key: str) -> None:
        """What the page keeps of a key that was entered in this tab."""
        self.context.add_init_script(f"sessionStorage.setItem('meteor.key', {key!r})")

    def go(self, path: str) -> None:
        """path: below /ui. Ends when nothing on the page loads any more."""
        self.page.goto(f"{self.origin}/ui{path}")
        self.settle()

    def settle(self) -> None:
        expect(self.page.locator("main :is(h1, h2)").first).to_be_visible()
        expect(self.page.locator(".spinner")).to_have_count(0)

    def show(self, size: dict[str, int], theme: str = "light") -> None:
        self.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        self.page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        self.page.wait_for_function("width => innerWidth === width", arg=size["width"])

    def drawn(self) -> None:
        """Ends when what follows from a size (ResizeObserver) is drawn too."""
        self.page.evaluate(TWO_FRAMES)

    def check(self) -> None:
        """Nobody else was asked, no script of a text ran or was tried, and the browser complained of nothing."""
        assert self.owned == [], self.owned
        assert self.violations == [], self.violations
        assert self.foreign == [], self.foreign
        unexpected = [one for one in self.complaints if not any(word in one for word in self.expected)]
        assert unexpected == [], unexpected

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", f"blob:{self.origin}/", "data:", "about:")):
            self.foreign.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")


@contextmanager
def open_tab(chromium: Browser, origin: str, **options: Any) -> Generator[Tab]:
    """options: of the context."""
    options = {"viewport": WIDE, "reduced_motion": "reduce", "locale": "en-GB", **options}
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    tab = Tab(context, context.new_page(), origin)
    context.expose_binding("owned", lambda _, *told: tab.owned.append(told))
    context.expose_binding("violated", lambda _, told: tab.violations.append(told))
    context.add_init_script(TELL_VIOLATIONS)
    context.on("request", tab._asked)
    context.on("console", tab._said)
    context.on("weberror", lambda error: tab.complaints.append(str(error.error)))
    try:
        yield tab
    finally:
        context.close()
