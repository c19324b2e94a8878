"""Every command of README and docs runs as it stands, against the real API with a fake engine. What cannot run here says why."""

import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.contracts.errors import MeteorError
from tests.contract.conftest import ADAPTER, KEY, TOKEN, RunningApi, publish_version, rows, running_api
from tests.contract.test_readme import ROOT, STUDENT, end_jobs
from tests.fakes.dump import answer, posts_xml, question
from tests.fakes.gateway import running_gateway
from tests.fakes.start import start_teacher
from tests.fakes.vllm import running_vllm
from tests.unit.test_docs import PAGES, calls, rows_of_cli_page

# Not run here -> where it is, or why it cannot be.
ELSEWHERE = {
    r"up\b.*|backup .*|upload-artifacts.*|doctor|status|gc.*|models (pull|path|prompts|abilities)\b.*": "acts on this machine: tests/integration",
    r"data import (org/name|notes/|handbook/|SOURCE|chat\.jsonl).*": "asks a hub or a teacher: tests/integration/test_imports.py",
    r"data (generate|coverage) .*": "asks a teacher: tests/integration/test_imports.py",
    r"models export .*": "needs a trainer: tests/integration/test_exports.py",
    r"data \w+ IMPORT\b.*": "acts on an import that runs: tests/integration/test_imports.py",
    r"completions dataset.*": "needs an orchestrator: tests/contract/test_from_use_to_data.py",
    r"jobs lineage .*": "needs a job's steps: tests/integration/test_simulated_jobs.py",
    r"recipes (create|show|pause|resume|events|delete) .*": "needs a recipe, or an orchestrator: tests/contract/test_recipes.py, tests/integration/test_recipes_of_chats.py",
    r"experiments run examples/(nl2bash|geoquery).*": "its rows are made of a file of others",
    r"experiments run .*--preset strategies": "takes hours: docs/results.md tells of it",
    r"providers \w+ (NAME|PRESET)\b.*": "stands for any provider: tests of the commands themselves",
    r"chat": "a conversation: tests/contract/test_chat_cli.py",
    r"[a-z]+( [a-z]+)?": "a command's name in a sentence",
}
# What it is answered with here, where that is a refusal of a well-formed request.
REFUSED = {
    r"jobs fork .* --from iterate(/1)?": "iterate(/1)? is not finished",
    r"jobs fork .* --without .*": "no file of the job has a row",
    r"jobs (pause|cancel|resume|raise) .*": "job .* (is|has)|succeeded",
    r"models delete shell@1 shell@3": "deleted|no model 'shell@1'",
    r"webhooks test .*": "gave no answer",
    r"webhooks replay .*": "no .*msg-",
    r"data validate bad\.jsonl": "1 bad line",
    r"data upload FILE --map .*": "no row has the field",
}
# Commands that go before, so that there is what it acts on.
BEFORE = {
    r"canary set .*": ["models promote shell@1"],
    r"canary (show|end|events) .*": ["models promote shell@1", "canary set shell 2 --percent 10"],
    r"capture (show|end) .*": ["capture set shell 5"],
    r"models (rollback|delete) .*|chat shell .*": ["models promote shell@2"],
}
CHANGES = r"jobs (pause|cancel|resume|raise|fork)"  # commands that want a job of their own
SYNTAX = re.compile(r"\[[^\]]*\]")  # of an option that may be left out
ALL_CASES = {
    SYNTAX.sub("", call).strip()
    for page in PAGES
    if "adr" not in page.parts
    for call in calls(page)
    if call not in rows_of_cli_page() or page.name != "cli.md"
} | {"jobs fork ID --from iterate/1"}  # fmt: skip
CASES = sorted(ALL_CASES, key=lambda call: (call.startswith("models delete"), call))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[RunningApi]:
    settings = {
        "METEOR_STUDENT_MODEL": STUDENT,
        "METEOR_STUDENTS": "",
        "REDIS_URL": _valkey_server,
        "METEOR_API_WEBHOOK_ALLOW": "127.0.0.1/32",
    }
    digests, folder = (ADAPTER, "c" * 64, "d" * 64), tmp_path_factory.mktemp("commands")
    with (
        running_vllm({STUDENT, *digests}) as engine,
        start_teacher() as teacher,
        running_gateway(teacher, folder, METEOR_INTERNAL_TOKEN=TOKEN) as gateway,
        running_api(
            folder / "api", METEOR_API_ENGINE_URL=engine.url, METEOR_API_GATEWAY_URL=gateway.url, **settings
        ) as running,
    ):
        for digest in digests:
            publish_version(running, "shell", digest, base=STUDENT)
        over = threading.Event()
        worker = threading.Thread(target=end_jobs, args=(running, over))
        worker.start()
        yield running
        over.set()
        worker.join()


@pytest.fixture(scope="module")
def http(api: RunningApi) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
    ) as made:
        yield made


@pytest.fixture(scope="module")
def world(http: httpx.Client) -> dict[str, Callable[[], str]]:
    """What a placeholder stands for; each call makes a new one, but for the job that is only read."""

    def post(path: str, **body: Any) -> str:
        answer = http.post(path, **body)
        assert answer.is_success, answer.text
        return answer.json()["id"]

    def job() -> str:
        spec = {"model": STUDENT, "training_file": dataset(), "distillation": {"domain": "sums"}, "suffix": "my-shell"}
        made = post("/v1/distillation/jobs", json=spec)
        http.get(f"/v1/distillation/jobs/{made}", params={"wait": 30})
        while http.get(f"/v1/distillation/jobs/{made}").json()["status"] != "succeeded":
            http.get(f"/v1/distillation/jobs/{made}", params={"wait": 5})
        return made

    def dataset() -> str:
        return post("/v1/files", files={"file": ("rows.jsonl", rows(60))}, data={"purpose": "fine-tune"})

    def label() -> str:
        row = {"question": "q", "first": "a", "second": "b", "preferred": "first"}
        http.post("/v1/labels", json={"labels": [row]})
        return http.get("/v1/labels").json()["data"][0]["id"]

    return {
        "url": lambda: str(http.base_url),
        "job": job,
        "ended job": lru_cache(job),
        "label": label,
        "file-...": dataset,
        "version": lambda: post(f"/v1/files/{dataset()}/versions", json={"remove": ["row-2"]}),
        "key-...": lambda: post("/v1/keys", json={"name": "k"}),
        "proj_...": lambda: post("/v1/projects", json={"name": "p"}),
        "chatcmpl-...": lambda: post(
            "/v1/chat/completions",
            json={"model": STUDENT, "messages": [{"role": "user", "content": "List all files."}], "store": True},
        ),
        "we-...": lambda: post("/v1/webhooks", json={"url": "http://127.0.0.1:9000/", "name": "w"}),
    }


def filled(call: str, world: dict[str, Callable[[], str]]) -> str:
    """The command with what its placeholders stand for."""
    for name in ("chatcmpl-...", "key-...", "proj_...", "we-..."):
        if name in call:
            call = call.replace(name, world[name]())
    if "file-..." in call:
        call = call.replace("file-...", world["version" if call.startswith("data diff") else "file-..."]())
    if re.search(r"\bID\b|ftjob-\.\.\.|\"\$job\"|\blast\b", call):
        job = "job" if re.match(CHANGES, call) else "ended job"
        kind = "label" if call.startswith("labels") else "we-..." if call.startswith("webhooks") else job
        call = re.sub(r"\bID\b|ftjob-\.\.\.|\"\$job\"|\blast\b", world[kind](), call)
    call = call.replace("JOB.json", "job.json").replace("--validation FILE", "--validation more.jsonl")
    return call.replace("FILE", "rows.jsonl")


@pytest.fixture
def desk(tmp_path: Path, api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A newcomer's folder, with the files that the pages speak of."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "rows.jsonl").write_bytes(rows(300))
    (tmp_path / "more.jsonl").write_bytes(rows(60, start=1000))
    (tmp_path / "job.json").write_text((ROOT / "examples/shell.job.json").read_text())
    (tmp_path / "bad.jsonl").write_text('{"question": "a", "answer": "b"}\nno\n')
    (tmp_path / "corrected.jsonl").write_text('{"id": "row-1", "reference": "one more"}\n')
    asked = (json.loads(line) for line in rows(400).splitlines())
    table = (f"{row['question']},{row['reference']}\n" for row in asked)
    (tmp_path / "fragen.csv").write_text("Frage,Antwort\n" + "".join(table))
    tickets = (f"Was kostet Tarif {n} im Monat?;{n} Euro.\n" for n in range(300))
    (tmp_path / "tickets.csv").write_text("Kundenanliegen;Bearbeitung\n" + "".join(tickets))
    (tmp_path / "mails.csv").write_text("question,answer\nWho is bob@example.com?,A customer.\n" * 40)
    (tmp_path / "question.txt").write_text("Count the lines of notes.txt.")
    label = {"question": "List all files.", "first": "ls", "second": "ls -a", "preferred": "second"}
    (tmp_path / "labels.jsonl").write_text(json.dumps(label) + "\n")
    posts = [question(1, 2, tags="nlp"), answer(2, 1), question(3, None)]
    (tmp_path / "Posts.xml").write_bytes(posts_xml(posts))
    monkeypatch.chdir(tmp_path)
    for name, value in {"METEOR_URL": api.url, "METEOR_API_KEY": KEY, "METEOR_DATA": str(tmp_path / "none")}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run(line: str) -> tuple[int, str]:
    """Exit code (1 for a refusal) and everything that was said."""
    words, _, source = line.partition("<")
    given = Path(source.strip()).read_text() if source else None
    result = CliRunner().invoke(cli, shlex.split(words), input=given)
    refusal = result.exception if isinstance(result.exception, MeteorError) else None
    return result.exit_code, result.output + (refusal.message if refusal else "")


def expectation(table: dict[str, str], call: str) -> str | None:
    """The value of the first pattern that fits the whole command."""
    return next((said for pattern, said in table.items() if re.fullmatch(pattern, call)), None)


@pytest.mark.parametrize("call", [case for case in CASES if expectation(ELSEWHERE, case) is None])
def test_a_command_of_the_pages_runs(call: str, desk: Path, world: dict[str, Callable[[], str]]):
    for pattern, commands in BEFORE.items():
        if re.fullmatch(pattern, call):
            assert [run(command)[0] for command in commands] == [0] * len(commands)
    code, said = run(filled(call, world).replace("http://10.0.0.7:8000", world["url"]()))
    refused = expectation(REFUSED, call)
    if refused is None:
        assert code == 0, said
    else:
        assert re.search(refused, said), said
        assert "should be" not in said, "the request itself is wrong"


def test_no_exception_is_left_over():
    tables = {**ELSEWHERE, **REFUSED}
    unused = [pattern for pattern in tables if not any(re.fullmatch(pattern, case) for case in CASES)]
    assert not unused


@pytest.mark.parametrize(
    ("point", "says"),
    [("iterate/one", "number of a round"), ("iterate/", "number of a round"), ("distill/1", "only iterate has rounds")],
)
def test_a_wrong_point_of_a_fork_is_told(point: str, says: str, desk: Path, world: dict[str, Callable[[], str]]):
    code, said = run(f"jobs fork {world['ended job']()} --from {point}")
    assert code == 1
    assert says in said
