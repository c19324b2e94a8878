"""Keys, the loopback rule, and what happens when parts are away."""

import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from tests.contract.conftest import ADAPTER, BASE, KEY, SCRAPER, TOKEN, RunningApi, api_environment, running_api
from tests.fakes.ports import free_port

ASK = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("key", [KEY, "another-key", TOKEN])
def test_keys_and_the_internal_token_open(api: RunningApi, key: str):
    answer = httpx.get(f"{api.url}/v1/models", headers={"authorization": f"Bearer {key}"}, trust_env=False)
    assert answer.status_code == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/files", "/v1/distillation/jobs", "/v1/distillation/jobs/x/events"])
def test_nothing_else_opens(api: RunningApi, header: str | None, path: str):
    headers = {} if header is None else {"authorization": header}
    answer = httpx.get(f"{api.url}{path}", headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["error"] == {
        "message": "no valid API key; send `Authorization: Bearer <key>` (`meteor keys create` makes one)",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


def scraped(api: RunningApi, key: str | None, path: str = "/metrics") -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.get(f"{api.url}{path}", headers=headers, trust_env=False).status_code


def test_figures_of_all_projects_are_for_the_operator_and_the_scraper(api: RunningApi, http: httpx.Client):
    assert [scraped(api, key) for key in (KEY, TOKEN, SCRAPER)] == [200] * 3
    assert [scraped(api, key) for key in (None, "wrong", SCRAPER[:-1])] == [401] * 3
    own = http.post("/v1/keys", json={"name": "k", "scopes": ["admin", "chat", "jobs", "files"]}).json()["key"]
    assert scraped(api, own) == 403
    assert [scraped(api, SCRAPER, path) for path in ("/v1/models", "/v1/keys", "/v1/projects")] == [401] * 3


def test_the_client_raises_its_own_type(api: RunningApi):
    wrong = openai.OpenAI(base_url=f"{api.url}/v1", api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_without_keys_other_hosts_are_refused_at_start(tmp_path: Path):
    environment = api_environment(tmp_path, free_port(), METEOR_API_KEYS=" , ", METEOR_API_HOST="0.0.0.0")
    ended = subprocess.run(
        [sys.executable, "-m", "services.api"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "METEOR_API_KEYS" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_without_keys_this_machine_only_and_without_an_engine_503(tmp_path: Path):
    dead = f"http://127.0.0.1:{free_port()}"
    broker = f"redis://127.0.0.1:{free_port()}/0"
    with (
        running_api(tmp_path, METEOR_API_KEYS="", METEOR_API_ENGINE_URL=dead, REDIS_URL=broker) as api,
        httpx.Client(base_url=api.url, trust_env=False) as http,
    ):
        assert http.get("/v1/models").json()["data"][0]["id"] == BASE
        for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
            refused = http.get("/v1/models", headers=headers)
            assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
            assert http.get("/metrics", headers=headers).status_code == 403
        assert "meteor_jobs" in http.get("/metrics").text
        assert http.get("/v1/models", headers={"origin": "http://localhost:3000"}).status_code == 200

        for stream in (False, True):
            away = http.post("/v1/chat/completions", json={"model": BASE, "messages": ASK, "stream": stream})
            assert (away.status_code, away.json()["error"]["code"]) == (503, "engine_unavailable")
            assert away.headers["retry-after"]
        assert {"broker", "engine"} <= set(http.get("/readyz").json()["missing"])
        assert http.get("/readyz").json()["checks"]["database"] is True


def test_an_adapter_that_the_engine_lacks_is_503(api: RunningApi, engine):
    engine.models.remove(BASE)
    try:
        answer = httpx.post(
            f"{api.url}/v1/chat/completions",
            json={"model": BASE, "messages": ASK},
            headers={"authorization": f"Bearer {KEY}"},
            trust_env=False,
        )
    finally:
        engine.models.add(BASE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_loaded")
    assert ADAPTER not in answer.text


def test_no_key_in_the_log_or_settings():
    from services.api.settings import ApiSettings

    settings = ApiSettings(keys="secret-one, secret-two")
    assert len(settings.keys) == 2
    assert "secret" not in repr(settings)
