"""Pictures of the dashboard, with jobs in every state: `python -m tests.browser.look FOLDER [PATH ...]`.

PATH: below /ui, as /data or /jobs/{running}; ids of the sample jobs stand in braces, by state. Without a path: all views.
`--serve` takes no pictures and leaves the API running, for `npm run dev` and for a browser; `--at URL` takes them of a METEOR that
runs, with ids of its newest job in each state.
"""

import argparse
import re
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from string import Formatter

import httpx

from tests.browser.chromium import NARROW, WIDE, Tab, open_tab, running_chromium
from tests.browser.pages import VIEWS
from tests.browser.samples import all_samples
from tests.browser.system import running_system
from tests.fakes.loopback import LOOPBACK
from tests.fakes.valkey import running_valkey

SIZES = {"wide": WIDE, "phone": NARROW}
TALLEST = 6000


def ids_at(url: str) -> dict[str, str]:
    """Of the newest job in each state, and of the newest dataset."""
    ids: dict[str, str] = {}
    for job in LOOPBACK.get(f"{url}/v1/distillation/jobs", params={"limit": 100}, timeout=60).json()["data"]:
        status: str = job["status"]
        ids.setdefault("finished" if status == "succeeded" else status, job["id"])
        ids.setdefault("file", job["training_file"])
    return ids | ({"traced": ids["finished"]} if "finished" in ids else {})


def whole_page(tab: Tab, size: dict[str, int], theme: str) -> bytes:
    """A picture of all of it, whatever scrolls inside."""
    tab.show(size, theme)
    tall = tab.page.evaluate("() => document.documentElement.scrollHeight")
    tab.show(size | {"height": min(max(tall, size["height"]), TALLEST)}, theme)
    return tab.page.screenshot(animations="disabled")


def take(url: str, ids: dict[str, str], folder: Path, paths: list[str], themes: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with running_chromium() as chromium, open_tab(chromium, url) as tab:
        for path in paths:
            if missing := {name for _, name, _, _ in Formatter().parse(path) if name} - ids.keys():
                print(f"{path}: nothing here is {', '.join(missing)}")
                continue
            tab.show(WIDE)
            tab.go(path.format_map(ids))
            name = re.sub(r"[^a-z0-9]+", "-", path).strip("-") or "start"
            for size in SIZES:
                for theme in themes:
                    (folder / f"{name}-{size}-{theme}.png").write_bytes(whole_page(tab, SIZES[size], theme))
        for told in (*tab.complaints, *tab.violations, *tab.foreign):
            print(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("paths", nargs="*", default=list(VIEWS))
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--empty", action="store_true", help="without any job")
    parser.add_argument("--themes", nargs="*", default=["light", "dark"])
    parser.add_argument("--at", help="the address of an API that runs")
    given = parser.parse_args()
    if given.at:
        take(given.at, ids_at(given.at), given.folder, given.paths, given.themes)
        return
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(running_valkey())
        api = stack.enter_context(running_system(Path(data), redis, METEOR_API_KEYS=""))
        with httpx.Client(base_url=api.url, timeout=60, trust_env=False) as http:
            ids = {} if given.empty else all_samples(api, http)
        print(api.url, ids, flush=True)
        if given.folder is not None and not given.serve:
            take(api.url, ids, given.folder, given.paths, given.themes)
        while given.serve:
            time.sleep(1)


if __name__ == "__main__":
    main()
