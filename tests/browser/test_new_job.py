"""A job by form: a file whose fields are mapped, its statistics, the estimate as it changes, and the first visit with the example."""

import json

import httpx

from tests.browser.pages import check_quiet, click, enter_key, fill, resize, shows, text_of
from tests.contract.browser import Browser
from tests.contract.conftest import KEY, RunningApi

FRAGEN = "Nr;Was wird gefragt;Was ist richtig\n" + "".join(f"{n};Was ist {n} plus 5?;{n + 5}\n" for n in range(60))
BROKEN = '{"question": "What is 1 plus 1?", "reference": "2"}\n{"question": ""}\nno json\n'


def choose_file(browser: Browser, name: str, content: str) -> None:
    """As a person does in the dialog of the browser."""
    browser.until("document.querySelector('input[type=file]')")
    browser.evaluate(
        f"(() => {{ const input = document.querySelector('input[type=file]'), files = new DataTransfer();"
        f"files.items.add(new File([{json.dumps(content)}], {json.dumps(name)})); input.files = files.files;"
        "input.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )


def test_a_file_becomes_a_job(api: RunningApi, http: httpx.Client, browser: Browser):
    browser.open(f"{api.url}/ui/jobs/new")
    enter_key(browser, KEY)
    resize(browser, 1440)
    choose_file(browser, "fragen.csv", FRAGEN)
    browser.until(shows("Which field is which"))
    before = len(http.get("/v1/files", params={"purpose": "fine-tune"}).json()["data"])
    for field, column in {"question": "Was wird gefragt", "reference": "Was ist richtig"}.items():
        label = f"[...document.querySelectorAll('label')].find((one) => one.textContent === '{field}')"
        browser.until(label)
        browser.evaluate(f"{label}.closest('.field').querySelector('input').id = 'map-{field}'")
        fill(browser, f"#map-{field}", column)
    browser.until(
        "[...document.querySelectorAll('dt')].some((one) => one.textContent === 'Rows' && one.nextElementSibling.textContent === '60')"
    )
    click(browser, "button", "Use this data")
    browser.until(shows("used by this job"))
    files = http.get("/v1/files", params={"purpose": "fine-tune"}).json()["data"]
    assert (len(files) - before, files[0]["n_rows"], files[0]["reading"]["references"]) == (1, 60, 60)

    fill(browser, "input[placeholder='the Linux command line']", "sums")
    browser.until("[...document.querySelectorAll('aside dt')].some((one) => one.textContent === 'Cost')")
    first = browser.evaluate(text_of("aside dl"))
    browser.evaluate(
        "[...document.querySelectorAll('input[type=checkbox]')].find((one) => one.parentElement.textContent.includes('iterate')).click()"
    )
    browser.until(f"{text_of('aside dl')} !== {json.dumps(first)} && !document.querySelector('aside .stale')")
    body = json.loads(copied(browser, "JSON"))
    assert body["distillation"]["phases"] == ["distill", "evolve"]
    assert "$METEOR_API_KEY" in copied(browser, "curl")
    assert KEY not in browser.evaluate("document.body.innerText")

    click(browser, "form button", "Check it first")
    browser.until(shows("This job can start"), 60)
    click(browser, "form button", "Start the job")
    browser.until("location.pathname.startsWith('/ui/jobs/ftjob-')")
    job = http.get(f"/v1/distillation/jobs/{browser.evaluate('location.pathname').rpartition('/')[2]}").json()
    assert (job["training_file"], job["distillation"]["domain"]) == (files[0]["id"], "sums")
    assert {name: job["distillation"][name] for name in ("phases", "primary_metric")} == {
        name: body["distillation"][name] for name in ("phases", "primary_metric")
    }
    check_quiet(browser, api.url, len(browser.events))


def copied(browser: Browser, form: str) -> str:
    """What the box has to copy in this form."""
    click(browser, "[aria-label='The same by the API'] button", form)
    browser.until(
        f"document.querySelector(\"[aria-label='The same by the API'] button[aria-pressed=true]\").textContent === '{form}'"
    )
    return browser.evaluate("document.querySelector(\"[aria-label='The same by the API'] pre\").textContent")


def test_bad_rows_are_told_by_line_and_can_be_left_out(api: RunningApi, browser: Browser):
    browser.open(f"{api.url}/ui/jobs/new")
    enter_key(browser, KEY)
    choose_file(browser, "broken.jsonl", BROKEN + FRAGEN.replace("Nr", "id"))
    browser.until(f"{shows('line 2')} && {shows('line 3')}")
    assert browser.evaluate(
        "[...document.querySelectorAll('button')].find((one) => one.textContent === 'Use this data').disabled"
    )
