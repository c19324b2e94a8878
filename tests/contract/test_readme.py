"""Blocks of the README and of the guides as they stand, against the real API. Who ends the jobs is played here."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.artifacts.store import Artifacts
from shared.contracts.jobs import JobStatus
from shared.contracts.steps import ModelRef
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, RunningApi, publish_version, running_api
from tests.fakes.reports import REPORT
from tests.fakes.vllm import running_vllm

ROOT = Path(__file__).parents[2]
STUDENT = "smollm2-135m-instruct"
HERE = "http://127.0.0.1:8000"
ECHO = "Count the lines of notes.txt."  # what the fake engine answers when it does not stream
# What the shell of a newcomer has: services that were started, and the command.
STARTED = f'set -e; make() {{ :; }}; .() {{ :; }}; meteor() {{ "{sys.executable}" -m services.local "$@"; }}\n'


def blocks(page: str, title: str) -> list[tuple[str, str]]:
    """(language, code) of a section's fenced blocks."""
    text = (ROOT / page).read_text().split(title, 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[RunningApi]:
    """Without a key, and with the demo's student; jobs succeed as soon as they are queued."""
    settings = {
        "METEOR_API_KEYS": "",
        "METEOR_STUDENT_MODEL": STUDENT,
        "METEOR_STUDENTS": "",
        "REDIS_URL": _valkey_server,
    }
    data = tmp_path_factory.mktemp("readme")
    with (
        running_vllm({STUDENT, ADAPTER, "c" * 64}) as engine,
        running_api(data, METEOR_API_ENGINE_URL=engine.url, **settings) as running,
    ):
        over = threading.Event()
        worker = threading.Thread(target=end_jobs, args=(running, over))
        worker.start()
        yield running
        over.set()
        worker.join()


def end_jobs(api: RunningApi, over: threading.Event) -> None:
    """Lets every job succeed as soon as it is queued, until it is over."""
    report = Artifacts(api.platform.artifacts).put_json(REPORT)
    while not over.wait(0.1):
        row = api.stores.jobs.claim("readme", 60)
        if row is not None:
            made = api.stores.catalog.publish(
                DEFAULT_PROJECT,
                row.request["suffix"],
                ModelRef(base=STUDENT, base_hash="b", adapter=ADAPTER),
                row.id,
                "undecided",
            )
            name = f"{made.alias}@{made.version}"
            assert api.stores.jobs.end(row, JobStatus.SUCCEEDED, report_ref=report, fine_tuned_model=name)


def run(api: RunningApi, *command: str, folder: Path = ROOT) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METEOR_")}
    environment = kept | {"METEOR_URL": api.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readmes_blocks(api: RunningApi):
    (_, row), (_, shell), (language, program) = blocks("README.md", "## Your own domain in five minutes")
    assert '"question"' in row
    assert "make up" in shell
    told = run(api, "bash", "-c", STARTED + shell)
    for words in ("300 good rows, 0 bad lines", ": succeeded", "my-shell@1 ", "Hello é"):
        assert words in told
    assert (language, HERE in program) == ("python", True)
    assert run(api, sys.executable, "-c", program.replace(HERE, api.url)).endswith(f"job succeeded\n{ECHO}\n")


def test_the_guides_blocks_with_curl(api: RunningApi):
    (_, start), (_, posting), (_, asking) = blocks("docs/tutorial/first-job.md", "# Your first job")
    assert HERE in posting
    told = run(api, "bash", "-c", STARTED + (start + posting + asking).replace(HERE, api.url))
    for words in ('"valid":true', "event: done", "primary_metric", f'"content":"{ECHO}"'):
        assert words in told.replace('": ', '":')


def test_the_labels_of_the_judge_guide(api: RunningApi, tmp_path: Path):
    ((_, shell),) = blocks("docs/how-to/check-the-judge.md", "# Check the judge")
    assert run(api, "bash", "-c", STARTED + shell, folder=tmp_path) == "1 labels added, 0 were known; 1 in all\n"


def test_the_canary_of_the_chat_page(api: RunningApi):
    """What the page says that it answers is what it answers."""
    for digest in (ADAPTER, "c" * 64):
        publish_version(api, "shell", digest)
    api.stores.catalog.serve(DEFAULT_PROJECT, api.stores.catalog.resolve(DEFAULT_PROJECT, "shell@1"))
    trying, ending, *_ = (code for _, code in blocks("docs/how-to/chat.md", "## Trying a version before it is served"))
    for code in (trying, ending):
        told = run(api, "bash", "-c", "set -e\n" + code.replace(HERE, api.url))
        promised = [line.removeprefix("# ") for line in code.splitlines() if line.startswith("# ")]
        answers = re.findall(r"\{.*?\}(?=\{|x-|$)|x-.*", told.replace("\r", ""), re.MULTILINE)
        assert [_settled(line) for line in answers] == [_settled(line) for line in promised]


def _settled(answer: str) -> str:
    """Without what differs from system to system: times, the student's name, and whom the canary takes."""
    answer = re.sub(r"(x-meteor-model: shell@)[12]", r"\1N", answer)
    return re.sub(r'"(created|created_at|parent)":("[^"]*"|\d+|\.\.\.)', r'"\1":', answer)
