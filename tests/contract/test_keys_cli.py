"""`meteor keys`: with an API and its key, with the token of the data folder, and before there is any API."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from services.cli import client as remote
from services.meteor.main import cli
from shared.contracts.errors import UserError
from shared.platform import run_state
from tests.contract.conftest import KEY, TOKEN, RunningApi, running_api
from tests.fakes.ports import free_port

RUN = CliRunner()


def meteor(*argv: str, **environment: str) -> str:
    done = RUN.invoke(cli, ["keys", *argv], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def opens(url: str, key: str, path: str = "/v1/files") -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(url + path, headers=headers, trust_env=False).status_code


def test_create_list_revoke(api: RunningApi):
    there = {"METEOR_API_URL": api.url, "METEOR_API_KEY": KEY, "COLUMNS": "300"}
    plain = meteor("create", "[b]laptop", "--scope", "files", "--days", "2", **there)
    key = plain.splitlines()[0]
    assert re.fullmatch(r"mk-[\w-]{43}", key)
    assert (opens(api.url, key), opens(api.url, key, "/v1/models")) == (200, 403)
    made = json.loads(meteor("create", "for scripts", "--json", **there))
    assert (made["scopes"], made["expires_at"]) == (["chat", "files", "jobs"], None)
    listed = meteor("list", "--limit", "2", **there)
    assert "[b]laptop" in listed
    assert key not in listed
    assert key[:7] in listed
    assert "open until" in listed
    assert meteor("revoke", made["id"], **there).strip() == f"{made['id']} revoked"
    assert opens(api.url, made["key"]) == 401
    page = json.loads(meteor("list", "--limit", "1", "--json", **there))
    assert page["data"][0]["revoked_at"]
    assert page["has_more"]
    with pytest.raises(UserError, match="no project"):
        meteor("create", "x", "--project", "proj_none", **there)


def test_the_first_key_before_the_first_start_and_the_token_of_the_folder_after_it(tmp_path: Path):
    data = tmp_path / "data"
    nobody = {"METEOR_DATA": str(data), "METEOR_API_KEYS": "", "METEOR_API_KEY": "", "METEOR_API_URL": ""}
    made = json.loads(meteor("create", "first", "--json", **nobody))
    assert (data / "key-pepper").stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="name"):
        meteor("create", " ", **nobody)
    with pytest.raises(UserError, match="nothing runs"):
        meteor("list", **nobody)
    run_state.token_path(data).write_text(f"{TOKEN}\n")
    with running_api(data, METEOR_API_KEYS="", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0") as api:
        assert opens(api.url, made["key"]) == 200
        assert opens(api.url, "") == 401
        key = remote.api_key(data)
        assert opens(api.url, key, "/v1/keys") == 200


def test_an_api_elsewhere_is_never_shown_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("METEOR_API_KEY", "METEOR_API_KEYS", "METEOR_INTERNAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    run_state.token_path(tmp_path).write_text("the token")
    monkeypatch.setenv("METEOR_API_URL", "http://elsewhere.example")
    monkeypatch.setenv("METEOR_INTERNAL_TOKEN", "another token")
    with remote.client(tmp_path) as made:
        assert "authorization" not in made.http.headers
    monkeypatch.delenv("METEOR_INTERNAL_TOKEN")
    assert remote.api_key(tmp_path) == "the token"
    monkeypatch.setenv("METEOR_API_KEYS", "mine, other")
    assert remote.api_key(tmp_path) == "mine"


@pytest.mark.parametrize(("answer", "code", "keys"), [("n", 1, 0), ("y", 0, 1)])
def test_a_person_is_asked_before_the_first_key(tmp_path: Path, answer: str, code: int, keys: int):
    """From the first key on nobody gets in without one. A script, which cannot answer, is told the same."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METEOR_")}
    command = [sys.executable, "-m", "services.meteor", "keys", "create", "laptop"]
    person, terminal = pty.openpty()
    try:
        os.write(person, f"{answer}\n".encode())
        done = subprocess.run(
            command,
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=120,
            env=kept | {"METEOR_DATA": str(tmp_path)},
        )
    finally:
        os.close(person)
        os.close(terminal)
    assert (done.returncode, len(re.findall(r"^mk-", done.stdout))) == (code, keys)
    for words in ("This is the first key", "every request needs one", "Make it? [y/N]"):
        assert words in done.stderr
