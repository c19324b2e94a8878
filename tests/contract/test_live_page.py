"""GET /: the page with the running jobs, by its headers and in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.api.responses.page_policy import hashed
from shared.artifacts.store import Artifacts
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind
from shared.db.engine import writing
from shared.jobs.tables import jobs
from tests.contract.browser import CHROMIUM, Browser, running_browser
from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.fakes.ports import wait_until
from tests.fakes.reports import WHOLE

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
def test_the_page_is_complete_and_needs_no_key(api: RunningApi, accept: str):
    answer = httpx.get(f"{api.url}/", headers={"accept": accept}, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    (script,), (style,) = (re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL) for tag in ("script", "style"))
    assert policy["script-src"] == hashed(script)
    assert hashed(style) in policy["style-src"].split()
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    links = re.findall(r'(?:src|href)="([^"]*)"', answer.text)
    assert links == [links[0], "/docs"]
    assert links[0].startswith("data:")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage", script)
    again = httpx.get(f"{api.url}/", headers={"if-none-match": answer.headers["etag"]}, trust_env=False)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_page_is_only_read(api: RunningApi, method: str):
    refused = httpx.request(method, f"{api.url}/", trust_env=False)
    assert (refused.status_code, refused.json()["error"]["type"]) == (405, "invalid_request_error")


def test_the_page_is_no_part_of_the_document(api: RunningApi):
    assert "/" not in httpx.get(f"{api.url}/openapi.json", trust_env=False, timeout=60).json()["paths"]


def note(api: RunningApi, job_id: str, **values: Any) -> None:
    """As the orchestrator would."""
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(**values))


@pytest.fixture
def job_id(api: RunningApi, http: httpx.Client) -> str:
    """A job in phase 2, with markup in whatever text may hold some."""
    sent: dict[str, Any] = {"files": {"file": ("r.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
    file = http.post("/v1/files", **sent).json()["id"]
    settings = {"domain": HOSTILE, "budget": {"max_usd": 5}, "iterate": {"rounds": 3}}
    body = {"model": BASE, "training_file": file, "suffix": "watched", "distillation": settings}
    made = http.post("/v1/distillation/jobs", json=body).json()["id"]
    progress = {"percent": 37.2, "done": 372.0, "total": 1000.0, "eta_seconds": 750.0}
    note(api, made, status="running", phase="iterate", progress=progress, status_reason=HOSTILE)
    row = api.stores.jobs.get(made)
    assert row is not None
    for n, key in enumerate(("distill/answers/0", "iterate/1/train", "iterate/2/try-1/answers/0")):
        api.stores.steps.create(row, StepKey.parse(key), StepKind.TEACH, str(n) * 64)
    return made


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    with running_browser(tmp_path / "profile") as running:
        yield running


def text_of(selector: str) -> str:
    return f"document.querySelector({selector!r}).textContent"


def enter_key(browser: Browser, key: str) -> None:
    browser.evaluate(f"document.getElementById('key').value = {key!r}; document.getElementById('door').requestSubmit()")


def test_a_job_is_watched_and_steered_in_a_browser(api: RunningApi, job_id: str, browser: Browser):
    browser.open(f"{api.url}/#{job_id}")
    browser.until(f"{text_of('#state')}.includes('401')")
    enter_key(browser, "wrong")
    browser.until("document.getElementById('key').value === '' && !document.getElementById('door').hidden")
    enter_key(browser, KEY)
    browser.until(f"{text_of('#state')} === '' && document.querySelector('.job.chosen')")
    refused = len(browser.events)

    row = ".job.chosen"
    assert browser.evaluate(text_of(f"{row} .eta")) == "about 13 minutes left"
    browser.until(f"{text_of(f'{row} .where')} === 'iterate, round 2 of 3, 37 %'")
    assert browser.evaluate(text_of("#phases .now")) == "iterateround 2 of 3, 0 of 2 steps done so far"
    assert browser.evaluate(text_of(f"{row} .spent")) == "0 of 5 USD, 0 teacher calls"
    assert browser.evaluate(text_of(f"{row} .reason")) == HOSTILE
    bar = f"document.querySelector('{row} [role=progressbar]')"
    assert browser.evaluate(f"{bar}.getAttribute('aria-valuenow')") == "37"
    assert 0.3 < browser.evaluate(f"{bar}.firstElementChild.offsetWidth / {bar}.offsetWidth") < 0.4

    found = api.stores.jobs.get(job_id)
    assert found is not None
    for level in ("info", "error"):  # each comes by the stream, and once
        api.stores.jobs.add_event(found, f"{level} {HOSTILE}", level=level)
        browser.until(f"document.querySelector('#events li.{level}')?.textContent.endsWith({f'{level} {HOSTILE}'!r})")
    assert browser.evaluate("document.querySelectorAll('#events li.error').length") == 1
    assert browser.evaluate("document.querySelectorAll('img, body script').length") == 1  # the page's own script

    browser.evaluate("document.querySelector('[data-move=cancel]').click()")
    browser.call("Page.handleJavaScriptDialog", accept=False)
    browser.evaluate("document.querySelector('[data-move=pause]').click()")
    browser.until(f"{text_of(f'{row} .status')} === 'pausing'")
    note(api, job_id, status="succeeded", phase=None, report_ref=Artifacts(api.platform.artifacts).put_json(WHOLE))
    browser.until("!document.getElementById('report').hidden")
    assert browser.evaluate("[...document.querySelectorAll('[data-move]')].every((button) => button.disabled)")

    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.evaluate("localStorage.length + document.cookie.length") == 0
    shows_report(browser)
    check_quiet(browser, api.url, refused)


def blobs_of(browser: Browser) -> list[str]:
    """The tabs that show what a page has made."""
    page, browser.session = browser.session, None
    targets = browser.call("Target.getTargets")["targetInfos"]
    browser.session = page
    return [one["targetId"] for one in targets if one["url"].startswith("blob:")]


def shows_report(browser: Browser) -> None:
    """The link opens the page that only the key could fetch, with its style."""
    page = browser.session
    browser.evaluate("document.getElementById('report').click()")
    wait_until(lambda: blobs_of(browser), 20, "the report")
    browser.attach(blobs_of(browser)[0])
    browser.until("document.querySelector('h1') && document.readyState === 'complete'")
    assert browser.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    browser.session = page


def check_quiet(browser: Browser, origin: str, since: int) -> None:
    """Nothing was asked of others, and nothing was complained of since `since`."""
    asked = {request["request"]["url"] for request in browser.told("Network.requestWillBeSent")}
    assert asked
    assert all(url.startswith((f"{origin}/", f"blob:{origin}/", "data:")) for url in asked), asked
    loud = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [told for told in browser.events[since:] if told[0] in loud] == []


def test_an_api_that_is_away_is_said_and_asked_again(api: RunningApi, job_id: str, browser: Browser):
    browser.open(f"{api.url}/")
    browser.until(f"{text_of('#state')}.includes('401')")
    enter_key(browser, KEY)
    browser.until("document.querySelector('.job')")
    away = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **away)
    browser.until(f"{text_of('#state')}.startsWith('The API does not answer')")
    assert browser.evaluate("document.querySelectorAll('.job').length > 0")
    browser.call("Network.emulateNetworkConditions", offline=False, **away)
    browser.until(f"{text_of('#state')} === ''")
