"""A job is watched and steered in a browser, through refused keys, hostile texts and an API that is away."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from shared.artifacts.store import Artifacts
from tests.browser.pages import check_quiet, click, enter_key, resize, shows, text_of
from tests.browser.sample_jobs import job_of, running, set_job, uploaded
from tests.browser.sample_report import HOSTILE, sample_report
from tests.browser.system import running_system
from tests.contract.browser import Browser
from tests.contract.conftest import KEY, RunningApi
from tests.fakes.ports import wait_until

EVENTS = "ol[aria-label^=Events] li"


@pytest.fixture
def job_id(api: RunningApi, http: httpx.Client) -> str:
    made = running(api, http, uploaded(http), "watched")
    set_job(api, made, status_reason=HOSTILE)
    return made


def open_job(api: RunningApi, browser: Browser, job_id: str) -> None:
    browser.open(f"{api.url}/#{job_id}")  # as links of earlier releases name it
    browser.until("document.querySelector('input[type=password]')")
    enter_key(browser, KEY)
    browser.until(f"{text_of('h1')} === 'watched'")


def test_a_job_is_watched_and_steered(api: RunningApi, job_id: str, browser: Browser):
    browser.open(f"{api.url}/#{job_id}")
    browser.until("document.querySelector('input[type=password]')")
    enter_key(browser, "wrong")
    browser.until(shows("This key is refused"))
    enter_key(browser, KEY)
    browser.until(f"{text_of('h1')} === 'watched'")
    assert browser.evaluate("location.pathname") == f"/ui/jobs/{job_id}"
    refused = len(browser.events)

    browser.until(shows("10 minutes to 17 minutes left"))
    browser.until(shows("iterate, round 2 of 3, 57 %"))
    assert browser.evaluate(shows("$0.00 of $5.00"))
    assert browser.evaluate(shows(HOSTILE))
    assert browser.evaluate("document.querySelector('[role=progressbar]').getAttribute('aria-valuenow')") == "57"
    for level in ("info", "error"):  # each comes by the stream, and once
        api.stores.jobs.add_event(job_of(api, job_id), f"new {level} {HOSTILE}", level=level)
        browser.until(
            f"[...document.querySelectorAll('{EVENTS}')].filter((one) => one.textContent.includes('new {level}')).length === 1"
        )
    assert browser.evaluate("document.querySelectorAll('img').length") == 0

    click(browser, "button", "Cancel")
    browser.until("document.querySelector('dialog[open]')")
    click(browser, "dialog[open] button", "Not now")
    browser.until("!document.querySelector('dialog[open]')")
    click(browser, "button", "Pause")
    browser.until("document.querySelector('.badge')?.textContent.includes('pausing')")

    report = Artifacts(api.platform.artifacts).put_json(sample_report(job_id))
    set_job(api, job_id, status="succeeded", phase=None, report_ref=report, status_reason=None)
    browser.until(shows("Every model on 80 test questions"))
    assert browser.evaluate(
        "[...document.querySelectorAll('button')].filter((one) => /^(Pause|Resume|Cancel)$/.test(one.textContent)).every((one) => one.disabled)"
    )
    resize(browser, 390)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.evaluate("localStorage.length + document.cookie.length") == 0
    assert KEY not in browser.evaluate("location.href")
    shows_report(browser)
    check_quiet(browser, api.url, refused)


def blobs_of(browser: Browser) -> list[str]:
    """The tabs that show what a page has made."""
    page, browser.session = browser.session, None
    targets = browser.call("Target.getTargets")["targetInfos"]
    browser.session = page
    return [one["targetId"] for one in targets if one["url"].startswith("blob:")]


def shows_report(browser: Browser) -> None:
    """The button opens the page that only the key could fetch, with its style."""
    page = browser.session
    click(browser, "button", "The whole report")
    wait_until(lambda: blobs_of(browser), 20, "the report")
    browser.attach(blobs_of(browser)[0])
    browser.until("document.querySelector('h1') && document.readyState === 'complete'")
    assert browser.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    browser.session = page


def test_an_api_that_is_away_is_said_and_asked_again(api: RunningApi, job_id: str, browser: Browser):
    open_job(api, browser, job_id)
    browser.until("document.querySelector('.dot.live')")
    away = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **away)
    browser.until(shows("The API does not answer"))
    assert browser.evaluate(text_of("h1")) == "watched"
    api.stores.jobs.add_event(job_of(api, job_id), "told while nobody listened")
    browser.call("Network.emulateNetworkConditions", offline=False, **away)
    browser.until(f"!{shows('The API does not answer')}", 40)
    browser.until(
        "[...document.querySelectorAll('ol[aria-label^=Events] li')].filter((one) => one.textContent.includes('told while')).length === 1",
        60,
    )


def test_a_page_goes_on_when_the_api_is_killed_and_started_again(tmp_path: Path, broker: str, browser: Browser):
    with ExitStack() as stack:
        api = stack.enter_context(running_system(tmp_path / "data", broker, METEOR_API_KEYS=""))
        http = stack.enter_context(httpx.Client(base_url=api.url, timeout=60, trust_env=False))
        job_id = running(api, http, uploaded(http), "watched")
        browser.open(f"{api.url}/ui/jobs/{job_id}")
        browser.until("document.querySelector('.dot.live')")
        written = Path(f"/proc/{api.process.pid}/environ").read_bytes().decode().rstrip("\0")
        environment = dict(pair.split("=", 1) for pair in written.split("\0"))
        api.process.kill()
        api.process.wait(20)
        browser.until(shows("The API does not answer"), 40)
        api.stores.jobs.add_event(job_of(api, job_id), "told while the API was dead")
        again = subprocess.Popen([sys.executable, "-m", "services.api"], env=environment)
        stack.callback(lambda: (again.terminate(), again.wait(20)))
        browser.until(f"!{shows('The API does not answer')}", 90)
        told = "[...document.querySelectorAll('ol[aria-label^=Events] li')].map((one) => one.textContent)"
        browser.until(f"{told}.filter((text) => text.includes('was dead')).length === 1", 60)
        browser.until("document.querySelector('.dot.live')")
        assert browser.evaluate(f"{told}.filter((text) => text.includes('job queued')).length") == 1


def test_it_is_used_by_keyboard(api: RunningApi, ids: dict[str, str], browser: Browser):
    browser.open(f"{api.url}/healthz")
    browser.evaluate(f"sessionStorage.setItem('meteor.key', {KEY!r})")
    browser.call("Page.navigate", url=f"{api.url}/ui/")
    browser.until("document.querySelectorAll('tbody tr').length > 3")

    def press(key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"Tab": 9, "Enter": 13}[key]
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    press("Tab")
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the content"
    press("Enter")
    assert browser.evaluate("document.activeElement.id") == "main"
    for _ in range(3):
        press("Tab")
    assert browser.evaluate("document.activeElement.closest('tbody') !== null")
    press("Enter")
    browser.until("location.pathname.startsWith('/ui/jobs/ftjob-') && document.activeElement.id === 'main'")
