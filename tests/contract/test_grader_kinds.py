"""The reference of all kinds of graders is what the API does, graders of other packages among them."""

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from shared.contracts.grader_kinds import VerifyingGrader
from shared.sandbox.confine import missing
from tests.contract.conftest import BASE, KEY, RunningApi, running_api
from tests.fakes.gateway import PATIENT, TOKEN, running_gateway
from tests.fakes.grader_package import install
from tests.fakes.grader_service import Service, running_service
from tests.fakes.start import start_teacher

PAGE = Path(__file__).parents[2] / "docs/reference/graders.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
BLOCKS = re.compile(r"```json\n(.*?)\n```", re.DOTALL)
RUN, VALIDATE = "/v1/fine_tuning/alpha/graders/run", "/v1/fine_tuning/alpha/graders/validate"
LEVENSHTEIN = {"type": "plugin", "plugin": "levenshtein"}
EXAMPLES = [
    (section.partition("\n")[0].strip("`"), json.loads(asked), json.loads(answered))
    for section in SECTIONS
    for blocks in [BLOCKS.findall(section)]
    for asked, answered in zip(blocks[::2], blocks[1::2], strict=True)
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str, service: Service) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "packages").mkdir()
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(install(folder / "packages"))]))
    with (
        start_teacher(module="tests.fakes.polite") as teacher,
        running_gateway(teacher, folder, **PATIENT) as gateway,
        running_api(
            folder / "api",
            REDIS_URL=_valkey_server,
            PYTHONPATH=path,
            METEOR_SANDBOX="true",
            METEOR_GRADERS="levenshtein, broken, absent, nowhere",
            METEOR_GRADER_ALLOW="127.0.0.1/32",
            METEOR_API_GATEWAY_URL=gateway.url,
            METEOR_INTERNAL_TOKEN=TOKEN,
        ) as api,
    ):
        yield api


@pytest.fixture(scope="module")
def ask(running: RunningApi) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


@pytest.fixture(scope="module")
def shop(ask: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE item (name TEXT, price REAL)")
        connection.execute("INSERT INTO item VALUES ('pen', 1.5), ('ink', 4.0)")
    connection.close()
    files, data = {"file": ("shop.sqlite", path.read_bytes())}, {"purpose": "user_data"}
    return ask.post("/v1/files", files=files, data=data).json()["id"]


def holds(answer: Any, wanted: Any) -> bool:
    """Whether the answer has all that is wanted of it."""
    if isinstance(wanted, dict):
        return isinstance(answer, dict) and all(holds(answer.get(name), value) for name, value in wanted.items())
    return answer == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


@pytest.mark.parametrize(
    ("kind", "asked", "answered"), EXAMPLES, ids=[f"{n}-{one[0]}" for n, one in enumerate(EXAMPLES)]
)
def test_the_examples_of_the_reference_are_what_the_api_answers(
    ask: httpx.Client, shop: str, service: Service, kind: str, asked: dict[str, Any], answered: dict[str, Any]
):
    if kind in ("python", "code_tests") and missing():
        pytest.skip(f"this machine lacks {missing()}")
    body = json.dumps(asked).replace("file-shop", shop).replace("https://grader.example/score", service.url)
    answer = ask.post(RUN, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert holds(answer.json(), answered), answer.text


@pytest.mark.parametrize("kind", get_args(VerifyingGrader), ids=lambda kind: kind.__name__)
def test_each_kind_has_a_section_with_all_its_settings_and_an_example(kind: Any):
    (name,) = get_args(kind.model_fields["type"].annotation)
    (section,) = (section for section in SECTIONS if section.startswith(f"`{name}`\n"))
    settings = [field.alias or given for given, field in kind.model_fields.items() if given != "type"]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    assert [setting for setting in settings if f"`{setting}`" not in rows] == []
    assert any(example[0] == name for example in EXAMPLES)


def test_all_kinds_are_listed_and_what_keeps_one_from_use(ask: httpx.Client):
    page = ask.get("/v1/graders").json()
    by_id = {one["id"]: one for one in page["data"]}
    kinds = {get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(VerifyingGrader)} - {"plugin"}
    assert kinds <= by_id.keys()
    assert by_id["number"]["settings"] == ["absolute", "relative", "unit", "decimal"]
    assert by_id["levenshtein"] == {
        "id": "levenshtein", "object": "grader.kind", "type": "plugin", "settings": None, "package": "acme-graders", "version": "1.2",
        "available": True, "unavailable_because": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"plugin": "../x"}, "grader.plugin.plugin", "pattern"),
        ({"plugin": "unnamed"}, "grader.plugin", "METEOR_GRADERS does not name it"),
        ({"plugin": "nowhere"}, "grader.plugin", "there are: absent, broken, levenshtein"),
        ({"plugin": "absent"}, "grader.settings", "acme_absent"),
        ({"plugin": "broken"}, "grader.settings", "Settings"),
        ({"settings": {"most": 0}}, "grader.settings", "it refuses its settings: most"),
        ({"settings": {"least": 1}}, "grader.settings", "least"),
        ({"version": "9"}, "grader.plugin", "version 1.2, not 9"),
    ],
)
def test_what_is_wrong_with_one_of_a_package_is_said(ask: httpx.Client, changes: dict[str, Any], param: str, says: str):
    answer = ask.post(VALIDATE, json={"grader": LEVENSHTEIN | changes})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert says in error["message"], error
    assert error["param"].startswith(param.partition(".plugin.")[0])


def test_a_job_may_use_one_of_a_package(ask: httpx.Client):
    words = ["red", "green", "blue", "black", "white", "brown", "pink", "grey"]
    rows = [{"question": f"Colour {n}?", "reference": words[n % 8] + "x" * (n // 8)} for n in range(80)]
    content = "\n".join(map(json.dumps, rows)).encode()
    file = ask.post("/v1/files", files={"file": ("c.jsonl", content)}, data={"purpose": "fine-tune"}).json()["id"]
    job = {
        "model": BASE,
        "training_file": file,
        "distillation": {"domain": "colours", "primary_metric": LEVENSHTEIN, "judge": {"grader": LEVENSHTEIN}},
    }
    check = ask.post("/v1/distillation/jobs/check", json=job).json()
    assert "plugin_levenshtein" in json.dumps(check), check


def test_one_of_a_package_is_off_until_the_operator_names_it(api: RunningApi):
    with httpx.Client(
        base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
    ) as client:
        answer = client.post(RUN, json={"grader": LEVENSHTEIN, "model_sample": "a", "item": {"reference": "a"}})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "grader_off"
