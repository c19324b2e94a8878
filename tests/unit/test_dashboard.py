"""The built files of the dashboard: they fit their sources, load nothing from elsewhere, and are small enough at the start."""

import gzip
import hashlib
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "services/dashboard"
PACKAGE = ROOT / "services/api/features/dashboard"
BUILT = PACKAGE / "built"
SINGLE = (
    "../../examples/shell.job.json", "../../examples/shell.jsonl",
    "index.html", "package.json", "package-lock.json", "svelte.config.js", "vite.config.ts",
)  # fmt: skip
START_BYTES = 250_000  # compressed JavaScript of the first view
BUILD_AGAIN = "run `npm ci` and `npm run build` in services/dashboard, and commit what it writes"
NAMED = re.compile(r'(?:src|href)="([^"]*)"')
# What a module imports at once, not when it is asked for: import"./a.js", from"./a.js".
IMPORTED = re.compile(r'(?:from|import)\s*"\./([\w.-]+\.js)"')


def sources() -> dict[str, Path]:
    """By name, in the order of the names."""
    below = [path for path in (SOURCES / "src").rglob("*") if path.is_file()]
    kept = [path for path in below if not path.name.endswith((".test.ts", ".d.ts"))]
    named = {name: SOURCES / name for name in SINGLE} | {path.relative_to(SOURCES).as_posix(): path for path in kept}
    return dict(sorted(named.items()))


def test_the_build_fits_the_sources():
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in sources().items())
    made = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (BUILT / "SOURCES.sha256").read_text().strip() == made, (
        f"the dashboard's sources have changed: {BUILD_AGAIN}"
    )


def test_the_page_names_files_that_are_there_and_nothing_inline():
    page = (BUILT / "index.html").read_text()
    names = NAMED.findall(page)
    assert names
    for name in names:
        assert name == "/docs" or (BUILT / name.removeprefix("/ui/")).is_file(), name
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_no_other_server_is_asked():
    for path in [BUILT / "index.html", *(BUILT / "assets").iterdir()]:
        if path.suffix == ".jsonl":
            continue  # questions of the example
        hosts = set(re.findall(r"https?://([\w.-]+)", path.read_text()))
        # names of namespaces, and pages that messages of libraries refer to
        assert hosts <= {"www.w3.org", "svelte.dev", "localhost"}, (path.name, hosts)


def test_the_start_is_small():
    page = (BUILT / "index.html").read_text()
    waiting = [Path(name).name for name in NAMED.findall(page) if name.endswith(".js")]
    waiting += [path.name for path in (BUILT / "assets").glob("Jobs-*.js")]  # the view that comes first
    seen: dict[str, int] = {}
    while waiting:
        name = waiting.pop()
        if name not in seen:
            content = (BUILT / "assets" / name).read_bytes()
            seen[name] = len(gzip.compress(content))
            waiting += IMPORTED.findall(content.decode())
    assert len(seen) > 2
    assert sum(seen.values()) < START_BYTES, seen


def test_texts_of_the_api_never_become_markup():
    for name, path in sources().items():
        if path.suffix in (".svelte", ".ts"):
            text = path.read_text()
            wrong = re.search(r"\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\sstyle=\"", text)
            assert wrong is None, f"{name}: {wrong and wrong.group()}"


def test_the_lock_names_no_registry():
    lock = json.loads((SOURCES / "package-lock.json").read_text())
    assert lock["packages"]
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]


def test_the_wheel_holds_every_built_file():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    own = patterns["services.api.features.dashboard"]
    for path in BUILT.rglob("*"):
        name = path.relative_to(PACKAGE).as_posix()
        assert path.is_dir() or any(fnmatch(name, pattern) for pattern in own), name
