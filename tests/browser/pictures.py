"""The pictures of the README, of the newest finished job of a METEOR that runs: `python -m tests.browser.pictures [URL]`.

They show a job's result, an example from its question to the versions that learned it, and its model beside its base on a test
question. Nothing on them is made up. Fails where one would be larger than the README bears.
"""

import argparse
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import expect

from tests.browser.chromium import Tab, open_tab, running_chromium

FOLDER = Path(__file__).parents[2] / "docs/images"
SIZE = {"width": 1280, "height": 860}
MOST_BYTES = 200_000
TELLING = ("passed", "learned", "measured")  # an example with tries tells more than one without


class NothingToShow(Exception):
    """Why a picture cannot be taken."""


def shown_job(http: httpx.Client, named: str | None) -> dict[str, Any]:
    if named:
        return http.get(f"/v1/distillation/jobs/{named}").raise_for_status().json()
    jobs = http.get("/v1/distillation/jobs", params={"status": "succeeded", "limit": 100}).raise_for_status().json()
    served = [job for job in jobs["data"] if job["fine_tuned_model"]]
    if not served:
        raise NothingToShow("no finished job has made a model: run `make demo` first")
    return served[0]


def shown_example(http: httpx.Client, job: str) -> str:
    """Of those that took several tries, the one that was learned soonest; else any that was learned or measured."""
    path = f"/v1/distillation/jobs/{job}/outcomes"
    for happened in TELLING:
        rows = http.get(path, params={"happened": happened, "limit": 100}).raise_for_status().json()["data"]
        if rows:
            return sorted(rows, key=lambda row: -len(row["tries"]))[0]["id"]
    raise NothingToShow("the results of the job's steps have expired")


def save(tab: Tab, name: str) -> None:
    picture = tab.page.screenshot(animations="disabled")
    if len(picture) > MOST_BYTES:
        raise NothingToShow(f"{name} has {len(picture)} bytes, more than {MOST_BYTES}")
    (FOLDER / name).write_bytes(picture)
    print(f"docs/images/{name}: {len(picture):,} bytes")


def take(tab: Tab, http: httpx.Client, job: dict[str, Any]) -> None:
    tab.show(SIZE)
    tab.go(f"/jobs/{job['id']}")
    tab.page.locator("#results").evaluate("(results) => results.scrollIntoView({ block: 'start' })")
    save(tab, "dashboard-job.png")
    tab.go(f"/jobs/{job['id']}/examples/{shown_example(http, job['id'])}")
    save(tab, "dashboard-example.png")
    report = http.get(f"/v1/distillation/jobs/{job['id']}/report").raise_for_status().json()
    question = next(one["question"] for one in report["samples"] if one["base"] != one["final"])
    tab.go(f"/playground?model={job['fine_tuned_model']},{job['model']}")
    tab.page.get_by_label("Prompt").fill(question)
    tab.page.get_by_role("button", name="Ask 2 models").click()
    expect(tab.page.get_by_text("tokens/s")).to_have_count(2)
    expect(tab.page.get_by_role("button", name="Good")).to_have_count(2)
    save(tab, "dashboard-playground.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--job", help="another one than the newest that has made a model")
    parser.add_argument("--key", default="none", help="an API key, where the API wants one")
    given = parser.parse_args()
    headers = {"authorization": f"Bearer {given.key}"}
    with (
        httpx.Client(base_url=given.url, headers=headers, timeout=60, trust_env=False) as http,
        running_chromium() as chromium,
        open_tab(chromium, given.url) as tab,
    ):
        if given.key != "none":
            tab.key(given.key)
        try:
            take(tab, http, shown_job(http, given.job))
        except NothingToShow as reason:
            raise SystemExit(str(reason)) from reason


if __name__ == "__main__":
    main()
