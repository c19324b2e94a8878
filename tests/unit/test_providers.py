"""METEOR_PROVIDERS_FILE: what it may hold, how it is refused, and who gets the secrets."""

import json
from pathlib import Path

import pytest

from services.local.settings import LocalSettings
from services.local.supervisor import plan
from services.strong_model.gateway.providers import all_providers, of_file
from shared.platform.providers import FILE, ProvidersFileError, given_providers

GOOD = """
[providers.large]
base_url = "https://large.example/v1/"
model = "large-2"
api_key_env = "LARGE_KEY"
headers_env = "LARGE_HEADERS"
price_input = 2.5
price_output = 10

[providers.local]
base_url = "http://127.0.0.1:9000/v1"
model = "m"
"""
SECRETS = {"LARGE_KEY": "sk-large", "LARGE_HEADERS": '{"x-team": "a"}'}


def written(folder: Path, text: str, name: str = "providers.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("form", ["toml", "json"])
def test_providers_come_with_their_secrets_in_the_files_order(tmp_path: Path, form: str):
    if form == "json":
        large = {"base_url": "https://large.example/v1/", "model": "large-2", "api_key_env": "LARGE_KEY"}
        large |= {"headers_env": "LARGE_HEADERS", "price_input": 2.5, "price_output": 10}
        text = json.dumps(
            {"providers": {"large": large, "local": {"base_url": "http://127.0.0.1:9000/v1", "model": "m"}}}
        )
    else:
        text = GOOD
    providers = of_file(written(tmp_path, text, f"providers.{form}"), SECRETS)
    assert list(providers) == ["large", "local"]
    large = providers["large"]
    assert (large.base_url, large.model) == ("https://large.example/v1", "large-2")
    assert large.request_headers() == {"authorization": "Bearer sk-large", "x-team": "a"}
    assert large.usd(1_000_000, 100_000) == pytest.approx(3.5)
    assert large.key_from == "LARGE_KEY"
    assert providers["local"].request_headers() == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[providers.a]\nbase_url = "https://a/v1"\nmodel = "m"\napi_key = "sk-123"', ["a.api_key", "api_key_env"]),
        ('[providers.a]\nbase_url = "https://a/v1"', ["a.model", "required"]),
        ('[providers.a]\nbase_url = "a/v1"\nmodel = "m"', ["a.base_url"]),
        ('[providers.a]\nbase_url = "https://a/v1"\nmodel = "m"\nprice_input = -1', ["a.price_input"]),
        ('[providers."a/b"]\nbase_url = "https://a/v1"\nmodel = "m"', ["1-64 letters"]),
        ('[providers.a]\nbase_url = "https://a/v1"\nmodel = "m"\napi_key_env = "sk-1 2"', ["a.api_key_env"]),
        ("[providers", ["is not TOML"]),
        ('[provider.a]\nmodel = "m"', ["provider"]),
        (GOOD, ["'large'", "LARGE_KEY", "not set"]),
    ],
)
def test_a_bad_file_says_where_and_shows_no_secret(tmp_path: Path, text: str, words: list[str]):
    with pytest.raises(ProvidersFileError) as error:
        given_providers(written(tmp_path, text), {})
    for word in words:
        assert word in error.value.message
    assert "sk-1" not in error.value.message


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ProvidersFileError, match="cannot be read"):
        given_providers(tmp_path / "none.toml", {})
    assert given_providers(None, {}) == {}


def test_one_name_has_one_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = '[providers.default]\nbase_url = "https://a/v1"\nmodel = "m"'
    path = written(tmp_path, text)
    assert list(all_providers(path)) == ["default"]
    monkeypatch.setenv("METEOR_TEACHER_BASE_URL", "https://b/v1")
    monkeypatch.setenv("METEOR_TEACHER_MODEL", "m")
    with pytest.raises(ProvidersFileError, match="both set up default"):
        all_providers(path)


def test_headers_that_are_no_object_are_refused_without_being_shown(tmp_path: Path):
    with pytest.raises(ProvidersFileError) as error:
        of_file(written(tmp_path, GOOD), SECRETS | {"LARGE_HEADERS": "x-secret: 123"})
    assert "LARGE_HEADERS" in error.value.message
    assert "x-secret" not in error.value.message


def test_only_the_gateway_gets_what_the_file_names(tmp_path: Path):
    environment = SECRETS | {FILE: str(written(tmp_path, GOOD)), "REDIS_URL": "redis://127.0.0.1:1/0", "OTHER": "x"}
    made = plan.make_plan(tmp_path / "data", ["gateway", "strong-worker", "judge-worker", "api"], environment)
    for spec in made.specs:
        for name, value in SECRETS.items():
            assert spec.env.get(name) == (value if spec.name == "gateway" else None), (spec.name, name)
        assert spec.env["OTHER"] == "x"
        assert spec.env["METEOR_API_GATEWAY_URL"] == made.urls["gateway"]
    with pytest.raises(ProvidersFileError, match="LARGE_KEY"):
        plan.make_plan(tmp_path / "data", ["gateway"], {FILE: str(written(tmp_path, GOOD))})


def test_a_default_of_the_file_takes_the_local_teachers_place(tmp_path: Path):
    text = '[providers.default]\nbase_url = "https://a/v1"\nmodel = "m"'
    providers = given_providers(written(tmp_path, text), {})
    assert "teacher-engine" in plan.wanted(None, LocalSettings.of({}))
    assert "teacher-engine" not in plan.wanted(None, LocalSettings.of({}), providers)
