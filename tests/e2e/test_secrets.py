"""Nothing that any service of the whole system writes or answers shows a secret: logs, databases, artifacts, and the API."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.e2e.conftest import PLANTED, System
from tests.e2e.test_faults import DISTILL_ONLY
from tests.fakes.loopback import LOOPBACK

BIGGEST = 50_000_000  # bytes of a file that is read; larger ones are weights
LISTS = (
    "/v1/files", "/v1/models", "/v1/providers", "/v1/keys", "/v1/webhooks", "/v1/audit", "/v1/projects", "/v1/exports",
    "/v1/imports", "/v1/experiments", "/v1/labels", "/readyz", "/metrics", "/healthz", "/",
)  # fmt: skip
OF_JOB = ("", "/events", "/steps", "/usage", "/metrics", "/report", "/examples", "/checkpoints")


def test_no_secret_is_in_any_log_row_artifact_or_answer(system: System):
    client, secrets = system.client, dict(PLANTED)
    answers: list[str] = []

    def said(method: str, path: str, **more: Any) -> dict:
        answer = client.request(method, path, **more)
        answers.append(answer.text)
        return answer.json() if "json" in answer.headers.get("content-type", "") else {}

    # the provider whose address and headers are secrets, by every way to it
    said("POST", "/v1/providers/planted/test", timeout=60)
    file = system.upload("secrets", 30)
    body = {"model": "tiny", "training_file": file, "distillation": {"domain": "d", "teacher": {"provider": "planted"}}}
    assert "planted" in json.dumps(said("POST", "/v1/distillation/jobs/check", json=body)["warnings"])
    few = DISTILL_ONLY | {"guidance": "none", "distill": {"questions": 4}, "teacher": {"provider": "planted"}}
    job = system.post(file, "planted", **few)
    said("POST", f"/v1/distillation/jobs/{job['id']}/cancel")

    # secrets that the system itself makes are told once; from the first key on, every request needs one
    hook = client.post("/v1/webhooks", json={"url": f"{system.teacher.url}/settings"})
    secrets["webhook secret"] = hook.json()["signing_secret"]
    key = client.post("/v1/keys", json={"name": "secrets", "scopes": ["admin", "jobs", "chat", "files"]})
    secrets["API key"] = key.json()["key"]
    secrets["wrong key"], secrets["key in the address"] = "mk-planted-wrong-0010", "mk-planted-address-0011"
    said("GET", "/v1/keys", headers={"authorization": f"Bearer {secrets['wrong key']}"})
    said("GET", f"/v1/models?api_key={secrets['key in the address']}")
    client.headers["authorization"] = f"Bearer {secrets['API key']}"

    for path in LISTS:
        said("GET", path)
    for one in client.get("/v1/distillation/jobs?limit=100").json()["data"]:
        for path in OF_JOB:
            said("GET", f"/v1/distillation/jobs/{one['id']}{path}")
    for url in system.runner.urls.values():
        if url.startswith("http"):
            answers += [LOOPBACK.get(f"{url}{path}", timeout=10).text for path in ("/readyz", "/metrics")]

    leaks = {f"{what} in an answer" for what, form in _forms(secrets) if any(form in text for text in answers)}
    files = 0
    for path, content in _written(system.data):
        files += 1
        leaks |= {
            f"{what} in {path.relative_to(system.data)}" for what, form in _forms(secrets) if form.encode() in content
        }
    assert files > 20, "logs, databases and artifacts were looked at"
    assert leaks == set()


def _forms(secrets: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each secret as it is, as URLs quote it, and as a header of HTTP's basic authentication holds it."""
    for what, secret in secrets.items():
        yield what, secret
        yield what, quote(secret, safe="")
        yield what, base64.b64encode(f"ann:{secret}".encode()).decode()


def _written(data: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(data.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < BIGGEST:
            yield path, path.read_bytes()
