"""The pictures of the README, of the newest finished job of a METEOR that runs: `python -m tests.browser.pictures [URL]`.

They show the list of jobs, the job's result, and an example from its question to what became of it. Nothing on them is made up, and
no model is asked.
"""

import argparse
from pathlib import Path
from typing import Any

import httpx

from tests.browser.chromium import WIDE, Tab, open_tab, running_chromium

FOLDER = Path(__file__).parents[2] / "docs/images"
HEIGHTS = range(900, 400, -50)  # the tallest whose picture the README bears is taken
BELOW = 24  # pixels below the content
MOST_BYTES = 200_000
# A closed dialog may be the last child; it stands nowhere.
END = "(main) => Math.ceil(Math.max(...[...main.children].map((part) => part.getBoundingClientRect().bottom)))"
TELLING = ("passed", "learned", "measured")  # an example with tries tells more than one without


class NothingToShow(Exception):
    """Why a picture cannot be taken."""


def shown_job(http: httpx.Client, named: str | None) -> dict[str, Any]:
    """The newest that has made a model; without one, the newest that has succeeded."""
    if named:
        return http.get(f"/v1/distillation/jobs/{named}").raise_for_status().json()
    answer = http.get("/v1/distillation/jobs", params={"status": "succeeded", "limit": 100}).raise_for_status()
    jobs: list[dict[str, Any]] = answer.json()["data"]
    if not jobs:
        raise NothingToShow("no job has succeeded: run `make demo` first")
    return next((job for job in jobs if job["fine_tuned_model"]), jobs[0])


def shown_example(http: httpx.Client, job: str) -> str:
    """Of those that took several tries, the one with the most; else any that was learned or measured."""
    path = f"/v1/distillation/jobs/{job}/outcomes"
    for happened in TELLING:
        rows = http.get(path, params={"happened": happened, "limit": 100}).raise_for_status().json()["data"]
        if rows:
            return max(rows, key=lambda row: len(row["tries"]))["id"]
    raise NothingToShow("the results of the job's steps have expired")


def save(tab: Tab, name: str) -> None:
    """What stands at the top of the window, down to where the content ends."""
    end = tab.page.locator("main").evaluate(END)
    for height in HEIGHTS:
        size = WIDE | {"height": max(min(height, end + BELOW), HEIGHTS[-1])}
        tab.show(size)
        picture = tab.page.screenshot(animations="disabled")
        if len(picture) <= MOST_BYTES:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / name).write_bytes(picture)
            print(f"docs/images/{name}: {size['width']} x {size['height']}, {len(picture):,} bytes")
            return
    raise NothingToShow(f"{name} has more than {MOST_BYTES:,} bytes at each height")


def take(tab: Tab, http: httpx.Client, job: dict[str, Any]) -> None:
    tab.show(WIDE)
    tab.go("/")
    save(tab, "dashboard-jobs.png")
    tab.go(f"/jobs/{job['id']}")
    tab.page.locator("#results").evaluate("(results) => scrollBy(0, results.getBoundingClientRect().top - 24)")
    save(tab, "dashboard-job.png")
    tab.go(f"/jobs/{job['id']}/examples/{shown_example(http, job['id'])}")
    save(tab, "dashboard-example.png")


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
