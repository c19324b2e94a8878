"""What a person does in the dashboard, from an own CSV to a model that is served, reviewed and rated, against the real system."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import flows
from tests.browser.chromium import Tab, chromium_or_skip, open_tab
from tests.browser.hostile import BACKWARDS, MARKUP, UNSEEN
from tests.browser.pages import check_accessible, check_layout, drop
from tests.e2e.conftest import SMALL, System

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2000)]
chromium = pytest.fixture(scope="module")(chromium_or_skip)
ROWS = 72
ODD = f"{MARKUP} {UNSEEN} {BACKWARDS}".replace('"', '""')
CSV = "no,ask,right\n" + "".join(
    f"{n},Which number comes after {n} by hand?,the number is seven\n" for n in range(ROWS)
)
CSV += f'{ROWS},"{ODD}","{ODD}"\n'
FINISH_MS = 600_000


@pytest.fixture
def tab(chromium: Browser, healthy: System) -> Iterator[Tab]:
    with open_tab(chromium, healthy.runner.urls["api"]) as opened:
        yield opened
        opened.check()


@pytest.fixture(scope="module")
def job(chromium: Browser, system: System) -> str:
    """Its id. Posted by form with an own CSV, watched, paused, resumed, and left alone by an API that is killed meanwhile."""
    system.mend()
    with open_tab(chromium, system.runner.urls["api"]) as opened:
        job_id = by_form(opened, system)
        opened.expect(
            "/jobs/estimate",
            "ERR_CONNECTION_REFUSED",
            "ERR_EMPTY_RESPONSE",
            "ERR_INCOMPLETE_CHUNKED",
            "ERR_CONNECTION_RESET",
        )
        stays_until_it_is_over(opened, system)
        opened.check()
    return job_id


def by_form(tab: Tab, system: System) -> str:
    """From the address alone to a running job."""
    page = tab.page
    page.goto(tab.origin)
    page.get_by_role("link", name="New job").click()
    drop(page, "numbers.csv", CSV)
    # The columns are no common names: the page asks which field is which.
    page.get_by_label("question", exact=True).fill("ask")
    page.get_by_label("reference", exact=True).fill("right")
    page.get_by_label("reference", exact=True).press("Tab")
    expect(page.locator("dl", has=page.get_by_text("Rows", exact=True)).first).to_contain_text(f"{ROWS + 1}")
    page.get_by_role("button", name="Use this data").click()
    expect(page.get_by_text("data of this job")).to_be_visible()
    page.get_by_role("textbox", name="Domain").fill("numbers")
    page.get_by_label("Model name", exact=True).fill("by-hand")
    page.get_by_label("Longest answer, in tokens", exact=True).fill("16")
    page.get_by_label("Guidance", exact=True).select_option("weak")
    page.get_by_label("Tries", exact=True).fill("2")
    page.get_by_label("Pass threshold", exact=True).fill("0.9")
    page.get_by_text("Further settings as JSON").click()
    page.get_by_label("Settings", exact=True).fill(small_settings())
    expect(page.get_by_role("complementary").locator("dl").first).to_contain_text("Calls to strong models")
    check_accessible(tab)
    system.teacher.latency(0.5)  # so that there is something to watch
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url("**/ui/jobs/ftjob-*")
    return page.url.rpartition("/")[2]


def small_settings() -> str:
    """What the form has no field for; the form stands over it."""
    kept = ("batch_size", "adapter", "judge", "distill", "iterate", "evolve", "evaluation")
    return json.dumps({name: SMALL[name] for name in kept})


def stays_until_it_is_over(tab: Tab, system: System) -> None:
    page = tab.page
    expect(page.locator(".dot.live")).to_be_visible()
    expect(flows.told(tab, "phase distill begins")).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused").first).to_be_visible()
    system.teacher.latency(0)
    page.get_by_role("button", name="Resume").click()
    expect(flows.told(tab, "resumed")).to_have_count(1)

    system.kill("api")
    banner = page.get_by_role("status").filter(has_text="The API does not answer")
    expect(banner).to_be_visible()
    expect(banner).to_have_count(0)
    expect(page.get_by_text("succeeded").first).to_be_visible(timeout=FINISH_MS)
    for message in ("job created and queued", "phase distill begins", "phase evolve begins", "by-hand@1 is promoted"):
        expect(flows.told(tab, message)).to_have_count(1)


def test_its_result_is_understood_on_its_page(job: str, healthy: System, tab: Tab):
    """Whether it helped, by how much and how sure that is, against what, what it took, and how to ask it."""
    report = healthy.report(job)
    assert report["promotion"]["state"] == "promoted", report["promotion"]
    tab.go(f"/jobs/{job}")
    page = tab.page
    expect(page.get_by_role("heading", name=report["verdict"]["words"])).to_be_visible()
    gain, low, high = report["final"]["over"]["base"]
    where = page.get_by_label("Status", exact=True)
    expect(where).to_contain_text(f"+{gain:.3f}")
    expect(where).to_contain_text(f"+{low:.3f} to +{high:.3f}")
    expect(where).to_contain_text("tiny → by-hand@1")
    rows = page.get_by_role("table", name="Models on the test split").locator("tbody tr")
    expect(rows).to_have_count(len(report["table"]))
    expect(page.get_by_text(f"Every model on {report['table'][0]['n']} test questions")).to_be_visible()
    for phase in ("distill", "iterate", "evolve"):
        expect(page.locator(".decision").filter(has_text=phase).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"on \d+ questions of dev")).first).to_be_visible()
    expect(page.get_by_role("heading", name="Test questions with both answers")).to_be_visible()
    check_layout(tab)
    check_accessible(tab)
    page.get_by_role("link", name="Try it").click()
    expect(page.get_by_role("checkbox", name=re.compile("^by-hand@1"))).to_be_checked()


def test_an_example_is_followed_from_its_question_to_the_version(job: str, healthy: System, tab: Tab):
    path = f"/v1/distillation/jobs/{job}"
    learned = healthy.client.get(f"{path}/outcomes", params={"happened": "learned", "limit": 100}).json()["data"]
    question = next(
        row["question"]
        for row in learned
        if "by hand" in row["question"] and healthy.client.get(f"{path}/examples/{row['id']}/lineage").json()["models"]
    )
    flows.follow_an_example(tab, job, "learned", question)
    expect(tab.page.get_by_text("the number is seven").first).to_be_visible()
    expect(tab.page.get_by_role("heading", name="Learned", exact=False).first).to_be_visible()
    expect(tab.page.get_by_role("link", name="by-hand@1")).to_be_visible()
    check_layout(tab)
    check_accessible(tab)


def test_ten_pairs_are_judged_by_keyboard(job: str, healthy: System, tab: Tab):
    flows.judge_ten_pairs(tab, healthy.client, job)


def test_a_model_is_asked_rated_and_corrected(job: str, healthy: System, tab: Tab):
    assert job
    prompt = "Which number comes after 3 by hand?"
    tuned, base = flows.ask_two(tab, ("by-hand", "tiny"), prompt)
    body = {"model": "by-hand", "messages": [{"role": "user", "content": prompt}]}
    said = healthy.client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    expect(tuned.locator("pre.text")).to_have_text(said)
    flows.rate_good(tuned)
    flows.correct(base, f"the number is seven {MARKUP}")
    given = flows.feedback(healthy.client)
    assert "up" in {one["rating"] for one in given}
    assert f"the number is seven {MARKUP}" in {one["correction"] for one in given}
    check_layout(tab)
    check_accessible(tab)


def test_a_fork_makes_a_version_that_is_promoted_by_hand(job: str, healthy: System, tab: Tab):
    tab.go(f"/jobs/{job}")
    flows.fork(tab, job)
    expect(tab.page.get_by_text("succeeded").first).to_be_visible(timeout=FINISH_MS)
    expect(tab.page.get_by_label("Status", exact=True)).to_contain_text("by-hand@2")
    tab.page.get_by_role("link", name="Versions of by-hand").click()
    flows.promote(tab, "by-hand", 1)  # the fork's own version is served already, by the gate
    assert healthy.client.get("/v1/models/by-hand").json()["version"] == 1
