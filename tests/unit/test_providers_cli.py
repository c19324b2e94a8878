"""`meteor providers add|list|presets|remove`: entries of the providers file by preset, through the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.local.providers.presets import presets
from services.meteor.main import cli
from shared.platform.providers import ProviderEntry, read_providers

LOCAL = ("ollama", "lmstudio", "vllm", "litellm")


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("METEOR_PROVIDERS_FILE", raising=False)


class Command:
    def __init__(self, data: Path):
        self.data = data
        self.file = data / "providers.toml"

    def __call__(self, *argv: str, code: int = 0) -> str:
        if argv[0] != "presets":
            argv = (*argv, "--data", str(self.data))
        done = CliRunner().invoke(cli, ["providers", *argv])
        assert done.exit_code == code, done.output
        return str(done.exception) if code else done.output

    def entries(self) -> dict[str, ProviderEntry]:
        return read_providers(self.file)


@pytest.fixture
def meteor(tmp_path: Path) -> Command:
    return Command(tmp_path / "data")


@pytest.mark.parametrize("name", presets())
def test_every_preset_makes_an_entry_that_the_gateway_reads(meteor: Command, name: str):
    preset = presets()[name]
    given = {"base_url": "https://mine.example/v1", "model": "big-1"}
    flags = [part for field in preset.needs for part in (f"--{field.replace('_', '-')}", given[field])]
    said = meteor("add", name, *flags)
    entry = meteor.entries()[name]
    assert entry.model == (given["model"] if "model" in preset.needs else next(iter(preset.models)))
    assert entry.api_key_env == (None if preset.key_is_optional else preset.key)
    assert f"meteor providers test {name}" in said
    if preset.models and "model" not in preset.needs:
        assert entry.price_output > 0
        assert str(preset.as_of) in said
        assert str(preset.prices) in said
    if name in LOCAL:
        assert entry.base_url.startswith("http://127.0.0.1:")
        assert entry.price_output == 0
    assert json.loads(meteor("list", "--json"))["data"][0]["model"] == entry.model


def test_azure_has_its_query_and_its_header(meteor: Command):
    error = meteor("add", "azure", "--model", "gpt-4.1", code=1)
    assert "azure needs --base-url" in error
    assert "https://RESOURCE.openai.azure.com" in error
    url = "https://mine.openai.azure.com/openai/deployments/d"
    meteor("add", "azure", "--base-url", url, "--model", "gpt-4.1")
    entry = meteor.entries()["azure"]
    assert (entry.query, entry.api_key_header) == ({"api-version": "2024-10-21"}, "api-key")
    assert (entry.base_url, entry.price_output) == (url, 8.0)


def test_flags_override_a_preset(meteor: Command):
    meteor(
        "add", "openai", "--name", "default", "--model", "gpt-7", "--key-env", "MY_KEY", "--price-input", "3",
        "--price-output", "4", "--set", "requests_per_minute=60", "--set", 'fallback=["spare"]', "--set",
        "reasoning_effort=low", "--base-url", "https://proxy.example/v1",
    )  # fmt: skip
    entry = meteor.entries()["default"]
    assert (entry.model, entry.base_url, entry.api_key_env) == ("gpt-7", "https://proxy.example/v1", "MY_KEY")
    assert (entry.price_input, entry.price_output, entry.requests_per_minute) == (3, 4, 60)
    assert entry.fallback == ["spare"]
    meteor("add", "vllm", "--model", "m", "--key-env", "")
    assert meteor.entries()["vllm"].api_key_env is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["add", "opnai"], "did you mean 'openai'"),
        (["add", "OpenAI"], "did you mean 'openai'"),
        (["add", "openai", "--set", "request_per_minute=3"], "did you mean 'requests_per_minute'"),
        (["add", "openai", "--set", "price_input=cheap"], "price_input"),
        (["add", "openai", "--set", "api_key=sk-1"], "did you mean 'api_key"),
        (["add", "openai", "--name", "../x"], "--name"),
        (["add", "openai", "--key-env", "sk-proj-1234"], "api_key_env"),
        (["add", "ollama"], "ollama needs --model"),
        (["remove", "opnai"], "there is none"),
    ],
)
def test_a_mistake_is_told_and_writes_nothing(meteor: Command, argv: list[str], words: str):
    error = meteor(*argv, code=1)
    assert words in error
    assert "sk-proj-1234" not in error
    assert not meteor.file.exists()


def test_one_entry_changes_and_the_rest_of_the_file_stays(meteor: Command):
    meteor.file.parent.mkdir()
    mine = '# mine\n[providers.own] # kept\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m" # so\n'
    meteor.file.write_text(mine)
    for name in ("openai", "groq"):
        meteor("add", name)
    assert "--replace" in meteor("add", "openai", code=1)
    meteor("add", "openai", "--model", "gpt-5", "--replace")
    assert list(meteor.entries()) == ["own", "groq", "openai"]
    assert meteor.entries()["openai"].model == "gpt-5"
    assert "did you mean 'openai'" in meteor("remove", "openaii", code=1)
    meteor("remove", "openai")
    meteor("remove", "groq")
    assert meteor.file.read_text().rstrip() == mine.rstrip()
    meteor("add", "openai", "--set", 'fallback=["own"]')
    assert "names 'own' as fallback" in meteor("remove", "own", code=1)


def test_the_file_that_the_variable_names_is_changed_and_may_be_json(
    meteor: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "given.json"
    monkeypatch.setenv("METEOR_PROVIDERS_FILE", str(path))
    meteor("add", "deepseek")
    meteor("add", "mistral", "--name", "judge.2")
    assert list(read_providers(path)) == ["deepseek", "judge.2"]
    meteor("remove", "judge.2")
    assert list(json.loads(path.read_text())["providers"]) == ["deepseek"]
    assert not meteor.file.exists()


def test_the_presets_are_listed_with_their_prices_and_their_month(meteor: Command):
    rows = {row["name"]: row for row in json.loads(meteor("presets", "--json"))["data"]}
    assert {"openai", "azure", "anthropic", "google", "deepseek", "mistral", "groq", "openrouter", "together",
            "fireworks", *LOCAL} <= rows.keys()  # fmt: skip
    for row in rows.values():
        assert bool(row["models"]) == bool(row["as_of"]) == bool(row["prices"])
    assert "gpt-5-mini" in meteor("presets")
