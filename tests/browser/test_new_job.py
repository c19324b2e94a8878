"""A job by form: a file whose fields are mapped, its statistics, the estimate as it changes, and the first visit with the example."""

import json

import httpx
from playwright.sync_api import Page, expect

from tests.browser.chromium import Tab
from tests.browser.pages import check_accessible, check_layout, drop
from tests.contract.conftest import KEY

FRAGEN = "Nr;Was wird gefragt;Was ist richtig\n" + "".join(f"{n};Was ist {n} plus 5?;{n + 5}\n" for n in range(60))
BROKEN = '{"question": "What is 1 plus 1?", "reference": "2"}\n{"question": ""}\nno json\n'


def copied(page: Page, form: str) -> str:
    """What the box has to copy in this form."""
    box = page.get_by_role("group", name="The same by the API")
    box.get_by_role("button", name=form, exact=True).click()
    return box.locator("pre").inner_text()


def test_a_file_becomes_a_job(http: httpx.Client, tab: Tab):
    page = tab.page
    tab.expect("/jobs/estimate")  # of a form that is filled in halfway it is refused
    tab.go("/jobs/new")
    drop(page, "fragen.csv", FRAGEN)
    before = len(http.get("/v1/files", params={"purpose": "fine-tune"}).json()["data"])
    page.get_by_role("button", name="Use this mapping").click()
    for field, column in {"question": "Was wird gefragt", "reference": "Was ist richtig"}.items():
        expect(page.get_by_label(field, exact=True)).to_have_value(column)
    expect(page.locator("dl", has=page.get_by_text("Rows", exact=True)).first).to_contain_text("60")
    check_layout(tab)
    check_accessible(tab)
    page.get_by_role("button", name="Use this data").click()
    expect(page.get_by_text("data of this job")).to_be_visible()
    expect(page.locator("dl", has=page.get_by_text("Rows", exact=True)).first).to_contain_text("60")  # as it was mapped
    expect(page.get_by_text("cannot be used")).to_have_count(0)
    files = http.get("/v1/files", params={"purpose": "fine-tune"}).json()["data"]
    assert (len(files) - before, files[0]["n_rows"], files[0]["reading"]["references"]) == (1, 60, 60)

    page.get_by_role("textbox", name="Domain").fill("sums")
    estimate = page.get_by_role("complementary").locator("dl").first
    expect(estimate).to_contain_text("Cost")
    first = estimate.inner_text()
    page.get_by_role("checkbox", name="iterate").uncheck()
    page.get_by_role("checkbox", name="Try it as a canary first").check()
    page.get_by_label("Unit", exact=True).select_option("answer")
    page.get_by_label("Metadata key of the user", exact=True).fill("customer")
    expect(estimate).not_to_have_text(first, use_inner_text=True)
    expect(page.locator("aside .stale")).to_have_count(0)
    body = json.loads(copied(page, "JSON"))
    assert body["distillation"]["phases"] == ["distill", "evolve"]
    goal = {"metric": "errors", "min_requests": 100, "per": "answer", "user_key": "customer"}
    assert body["distillation"]["canary"] == {"goal": goal, "steps": [5, 25, 50]}
    assert "$METEOR_API_KEY" in copied(page, "curl")
    assert KEY not in page.locator("body").inner_text()

    page.get_by_role("button", name="Check it first").click()
    expect(page.get_by_text("This job can start")).to_be_visible()
    check_accessible(tab)
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url("**/ui/jobs/ftjob-*")
    job = http.get(f"/v1/distillation/jobs/{page.url.rpartition('/')[2]}").json()
    assert (job["training_file"], job["distillation"]["domain"]) == (files[0]["id"], "sums")
    assert goal.items() <= job["distillation"]["canary"]["goal"].items()
    assert {name: job["distillation"][name] for name in ("phases", "primary_metric")} == {
        name: body["distillation"][name] for name in ("phases", "primary_metric")
    }


def test_bad_rows_are_told_by_line_and_can_be_left_out(tab: Tab):
    page = tab.page
    tab.go("/jobs/new")
    page.locator("input[type=file]").set_input_files(
        {"name": "broken.jsonl", "mimeType": "application/jsonl", "buffer": BROKEN.encode()}
    )
    for line in (2, 3):
        expect(page.get_by_text(f"line {line}").first).to_be_visible()
    expect(page.get_by_role("button", name="Use this data")).to_be_disabled()
    check_accessible(tab)


def test_what_can_be_chosen_comes_from_the_api(http: httpx.Client, tab: Tab):
    tab.go("/jobs/new")
    offered = {
        "Student": {one["id"] for one in http.get("/v1/models").json()["data"] if one["version"] is None},
        "Teacher": {one["name"] for one in http.get("/v1/providers").json()["data"]},
        "Grader": {one["id"] for one in http.get("/v1/graders").json()["data"] if one["available"]},
    }
    for label, wanted in offered.items():
        options = tab.page.get_by_label(label, exact=True).locator("option")
        expect(options.nth(len(wanted) - 1)).to_be_attached()
        assert wanted <= set(options.evaluate_all("(all) => all.map((one) => one.value)")), label


def test_the_first_visit_leads_to_the_example_in_three_clicks(stranger: Tab, http: httpx.Client):
    project = http.post("/v1/projects", json={"name": "first"}).raise_for_status().json()["id"]
    made = http.post("/v1/keys", json={"name": "first", "project": project, "scopes": ["jobs", "chat", "files"]})
    stranger.expect("403")  # a user sees no providers
    stranger.key(made.raise_for_status().json()["key"])
    stranger.go("/")
    stranger.page.get_by_role("link", name="Try the example").click()
    expect(stranger.page.get_by_text("data of this job")).to_be_visible()
    start = stranger.page.get_by_role("button", name="Start the job")
    expect(start).to_be_enabled()
    start.click()
    stranger.page.wait_for_url("**/ui/jobs/ftjob-*")
    expect(stranger.page.get_by_role("heading", level=1)).to_be_visible()
