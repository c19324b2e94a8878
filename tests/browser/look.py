"""Pictures of the dashboard, with jobs in every state: `python -m tests.browser.look FOLDER [PATH ...]`.

PATH: below /ui, as /data or /jobs/{running}; ids of the sample jobs stand in braces, by state. Without a path: all that are
listed in PATHS. `--serve` takes no pictures and leaves the API running, for `npm run dev` and for a browser; `--at URL` takes them
of such an API.
"""

import argparse
import base64
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from string import Formatter

import httpx

from tests.browser.sample_data import more_of_everything
from tests.browser.sample_jobs import one_of_each
from tests.browser.system import running_system
from tests.contract.browser import Browser, running_browser
from tests.fakes.loopback import LOOPBACK
from tests.fakes.valkey import running_valkey

PATHS = (
    "/",
    "/?status=failed",
    "/jobs/{running}",
    "/jobs/{finished}",
    "/jobs/{failed}",
    "/jobs/{paused}",
    "/jobs/new?file={file}",
    "/nowhere",
    "/data",
    "/data/{dataset}",
    "/data/{dataset}?part=statistics",
    "/data/{dataset}?part=versions",
    "/data/{bad_file}",
    "/models",
    "/models/shell",
    "/spend",
    "/system",
)
SIZES = {"wide": (1440, 900), "phone": (390, 844)}
LOADED = "document.querySelector('h1, h2') && !document.querySelector('.spinner')"


def picture(browser: Browser, url: str, width: int, height: int, theme: str) -> bytes:
    """Of the whole page, once nothing on it loads."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.call("Page.navigate", url=url)
    time.sleep(0.5)
    browser.until(LOADED, 60)
    time.sleep(0.7)
    tall = max(browser.evaluate("document.documentElement.scrollHeight"), height)
    browser.call("Emulation.setDeviceMetricsOverride", **size | {"height": min(tall, 6000)})
    time.sleep(0.3)
    return base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])


def ids_at(url: str) -> dict[str, str]:
    """Of the newest job in each state, and of the newest dataset."""
    ids: dict[str, str] = {}
    for job in LOOPBACK.get(f"{url}/v1/distillation/jobs", params={"limit": 100}, timeout=60).json()["data"]:
        status: str = job["status"]
        ids.setdefault("finished" if status == "succeeded" else status, job["id"])
        ids.setdefault("file", job["training_file"])
    return ids


def take(url: str, ids: dict[str, str], folder: Path, paths: list[str], themes: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, running_browser(Path(profile)) as browser:
        browser.open(f"{url}/ui/")
        for path in paths:
            if missing := {name for _, name, _, _ in Formatter().parse(path) if name} - ids.keys():
                print(f"{path}: nothing here is {', '.join(missing)}")
                continue
            for size, (width, height) in SIZES.items():
                for theme in themes:
                    image = picture(browser, f"{url}/ui{path.format_map(ids)}", width, height, theme)
                    name = (
                        path.strip("/").replace("/", "-").replace("{", "").replace("}", "").replace("?", "-") or "start"
                    )
                    (folder / f"{name}-{size}-{theme}.png").write_bytes(image)
        for complaint in browser.told("Runtime.exceptionThrown", "Log.entryAdded"):
            print(complaint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("paths", nargs="*", default=list(PATHS))
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
            ids = {} if given.empty else one_of_each(api, http)
            ids |= more_of_everything(api, http, ids) if ids else {}
        print(api.url, ids, flush=True)
        if given.folder is not None and not given.serve:
            take(api.url, ids, given.folder, given.paths, given.themes)
        while given.serve:
            time.sleep(1)


if __name__ == "__main__":
    main()
