"""`meteor providers test` and /v1/providers before simulated providers: what a test finds out, what it costs, who may see it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from services.meteor.main import cli
from services.strong_model.gateway.probe import PHASE
from shared.contracts.providers import ProviderReport
from shared.db.engine import reading
from shared.ledger.store import open_ledger
from shared.ledger.tables import calls
from tests.contract.conftest import KEY, TOKEN, RunningApi, running_api
from tests.fakes.ports import free_port
from tests.fakes.providers.server import KEY as PROVIDER_KEY
from tests.fakes.providers.server import providers_file, simulated_providers
from tests.fakes.start import FakeServer, running

Meteor = Callable[..., Result]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, FakeServer]]:
    with simulated_providers() as made:
        yield made


@pytest.fixture(scope="module")
def system(
    servers: dict[str, FakeServer], tmp_path_factory: pytest.TempPathFactory, _valkey_server: str
) -> Iterator[RunningApi]:
    """The API and the gateway on one data folder; the providers stand in its providers.toml by name."""
    data = tmp_path_factory.mktemp("providers")
    azure = {"query": {"api-version": "1"}, "api_key_header": "api-key"}
    more = {name.replace("-", "_"): {"price_input": 1.0, "price_output": 2.0} for name in servers}
    content = providers_file(servers, **more | {"azure": azure})
    content["providers"]["away"] = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    file = data / "given.json"
    file.write_text(json.dumps(content))
    port = free_port()
    environment = {
        "METEOR_DATA": str(data),
        "METEOR_INTERNAL_TOKEN": TOKEN,
        "METEOR_STRONG_PORT": str(port),
        "METEOR_STRONG_PATIENCE": "PT2S",
        "METEOR_STRONG_BACKOFF": "PT0.05S",
        "METEOR_PROVIDERS_FILE": str(file),
        "SIMULATED_KEY": PROVIDER_KEY,
        "REDIS_URL": _valkey_server,
    } | dict.fromkeys(("METEOR_TEACHER_BASE_URL", "METEOR_JUDGE_BASE_URL", "DATABASE_URL"), "")
    gateway = f"http://127.0.0.1:{port}"
    with (
        running(["services.strong_model", "gateway"], f"{gateway}/healthz", environment, timeout_s=120),
        running_api(data, METEOR_API_GATEWAY_URL=gateway, REDIS_URL=_valkey_server) as api,
    ):
        yield api


@pytest.fixture
def meteor(system: RunningApi, monkeypatch: pytest.MonkeyPatch) -> Meteor:
    monkeypatch.setenv("METEOR_URL", system.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    return lambda *argv: CliRunner().invoke(cli, ["providers", *argv])


def report_of(meteor: Meteor, name: str) -> ProviderReport:
    done = meteor("test", name, "--json")
    assert done.exit_code == 0, done.output
    return ProviderReport.model_validate_json(done.stdout)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "plain",
            {"structured": "json_schema", "system_role": "kept", "seed": "honoured", "batch": True, "changed": []},
        ),
        ("gpt-5", {"structured": "json_schema", "logprobs": False}),
        ("deepseek", {"structured": "json_object"}),
        ("mistral", {"seed": "dropped"}),
        ("gemini", {"seed": "dropped"}),
        ("gemma", {"system_role": "the system's text stands in the first user turn"}),
        ("azure", {"structured": "json_schema"}),
        ("claude-opus", {"structured": "none"}),
        ("ollama", {"logprobs": False}),
    ],
)
def test_a_test_finds_out_what_a_provider_can_do(meteor: Meteor, name: str, expected: dict[str, Any]):
    report = report_of(meteor, name)
    assert report.answers, report.error
    assert report.model == f"{name}-model"
    assert {field: getattr(report, field) for field in expected} == expected, report
    assert report.calls >= 4
    assert report.output_tokens > 0
    if name == "gpt-5":
        assert {change.field: change.how for change in report.changed}["max_tokens"] == "sent as max_completion_tokens"
        assert report.room > 0


def test_the_calls_of_a_test_stand_on_the_ledger(meteor: Meteor, system: RunningApi):
    engine = open_ledger(f"sqlite:///{(system.platform.data / 'ledger.sqlite3').resolve()}").engine
    report = report_of(meteor, "plain")
    with reading(engine) as connection:
        rows = connection.execute(
            select(calls).where(
                calls.c.provider == "plain", calls.c.phase == PHASE, calls.c.created_at >= report.tested_at
            )
        ).all()
    assert len(rows) == report.calls
    assert sum(row.input_tokens for row in rows) == report.input_tokens
    assert sum(row.usd for row in rows) == pytest.approx(report.usd, abs=1e-6)
    assert report.usd == pytest.approx((report.input_tokens + 2 * report.output_tokens) / 1e6, abs=1e-6)


def test_a_provider_that_does_not_answer_is_told_and_ends_with_1(meteor: Meteor):
    done = meteor("test", "away")
    assert done.exit_code == 1
    assert "teacher_unreachable" in done.output
    assert "base_url of 'away'" in done.output


def test_people_get_a_sheet(meteor: Meteor):
    done = meteor("test", "plain")
    assert done.exit_code == 0, done.output
    for words in ("structured output", "json_schema", "seed", "batch API", "calls", "USD"):
        assert words in done.output


def test_what_was_learned_is_listed_and_can_be_forgotten(meteor: Meteor):
    report_of(meteor, "gpt-5")
    rows = {row["name"]: row for row in json.loads(meteor("learned", "--json").stdout)["data"]}
    assert [change["field"] for change in rows["gpt-5"]["changed"]]
    assert (rows["gpt-5"]["price_input"], rows["gpt-5"]["price_output"]) == (1, 2)
    assert meteor("forget", "gpt-5").exit_code == 0
    rows = {row["name"]: row for row in json.loads(meteor("learned", "--json").stdout)["data"]}
    assert rows["gpt-5"]["changed"] == []


def test_a_typo_gets_the_nearest_name(meteor: Meteor):
    done = meteor("test", "gpt5")
    assert done.exit_code == 1
    assert "did you mean 'gpt-5'" in str(done.exception)


def test_only_the_operator_may(system: RunningApi):
    with httpx.Client(base_url=system.url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False) as http:
        project = http.post("/v1/projects", json={"name": "other"}).json()["id"]
        key = http.post("/v1/keys", json={"name": "k", "project": project, "scopes": ["admin"]}).json()["key"]
    with httpx.Client(base_url=system.url, headers={"authorization": f"Bearer {key}"}, trust_env=False) as http:
        for method, path in (("GET", ""), ("POST", "/plain/test"), ("DELETE", "/plain/learned")):
            refused = http.request(method, f"/v1/providers{path}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")


def test_the_file_of_the_data_folder_is_read_where_no_variable_names_one(
    servers: dict[str, FakeServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As `meteor providers add` writes it."""
    monkeypatch.delenv("METEOR_PROVIDERS_FILE", raising=False)
    data, port = tmp_path / "data", free_port()
    argv = ["add", "vllm", "--name", "mine", "--model", "m", "--base-url", servers["plain"].base_url]
    argv += ["--key-env", "SIMULATED_KEY", "--data", str(data)]
    done = CliRunner().invoke(cli, ["providers", *argv])
    assert done.exit_code == 0, done.output
    environment = {"METEOR_DATA": str(data), "METEOR_INTERNAL_TOKEN": TOKEN, "METEOR_STRONG_PORT": str(port)}
    environment |= {"SIMULATED_KEY": PROVIDER_KEY, "METEOR_PROVIDERS_FILE": ""}
    environment |= dict.fromkeys(("METEOR_TEACHER_BASE_URL", "METEOR_JUDGE_BASE_URL", "DATABASE_URL"), "")
    environment = {name: value for name, value in environment.items() if value or name in os.environ}
    with running(["services.strong_model", "gateway"], f"http://127.0.0.1:{port}/healthz", environment, timeout_s=120):
        headers = {"authorization": f"Bearer {TOKEN}"}
        listed = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=headers).json()["data"]
        assert [row["id"] for row in listed] == ["mine"]
