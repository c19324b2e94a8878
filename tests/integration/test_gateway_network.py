"""Between the gateway and its providers: proxies, certificates, names, redirects, compressions; and secrets on the way back."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from shared.contracts.errors import UserError
from shared.platform.http_client import fault_of, is_near
from tests.fakes.gateway import TOKEN, Gateway, ask, one, running_gateway
from tests.fakes.on_a_thread import on_a_thread
from tests.fakes.start import FakeServer, start_teacher

FAR = "http://provider.example.com/v1"
NO_HOST = "http://no-such-host.example.com/v1"


def answer(text: str) -> Response:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]})


class Proxy:
    """Answers for every host itself, and remembers whom it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await request.body()
        self.asked.append(request.headers["host"])
        await answer("by the proxy")(scope, receive, send)


async def _moved(request: Request) -> Response:
    return RedirectResponse(
        "http://elsewhere.example.com/v1/chat/completions?key=planted", int(request.path_params["status"])
    )


async def _compressed(request: Request) -> Response:
    return Response(b"\x0b\x02\x80{}\x03", 200, {"content-encoding": request.path_params["how"]}, "application/json")


async def _as_events(_: Request) -> Response:
    chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "as events"}, "finish_reason": "stop"}]}
    return Response(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", media_type="text/event-stream")


async def _echo(request: Request) -> Response:
    """An error that quotes what was sent, as many servers do."""
    quoted = {"url": str(request.url), "headers": dict(request.headers.items())}
    return JSONResponse(
        {"error": {"message": f"not allowed: {quoted}", "code": "x"}}, int(request.path_params["status"])
    )


APP = Starlette(
    routes=[
        Route("/moved/{status}/v1/chat/completions", _moved, methods=["POST"]),
        Route("/compressed/{how}/v1/chat/completions", _compressed, methods=["POST"]),
        Route("/events/v1/chat/completions", _as_events, methods=["POST"]),
        Route("/echo/{status}/v1/chat/completions", _echo, methods=["POST"]),
        Route("/echo/{status}/v1/models", _echo),
    ]
)


def certificate(folder: Path) -> Path:
    """A self-signed one and its key, in one file."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "install openssl"
    key, made = folder / "key.pem", folder / "certificate.pem"
    argv = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    argv += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(argv, check=True, capture_output=True)
    made.write_text(made.read_text() + key.read_text())
    return made


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture(scope="module")
def gateway(proxy: Proxy, tmp_path_factory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("network")
    with (
        start_teacher() as teacher,
        on_a_thread(proxy) as proxy_url,
        on_a_thread(APP) as url,
        on_a_thread(APP, certificate(folder)) as secure,
    ):
        addresses = {
            "far": FAR, "nobody": NO_HOST, "certificate": f"{secure}/events/v1",
            "tls": f"https{url.removeprefix('http')}/events/v1", "moved": f"{url}/moved/307/v1",
            "moved-for-good": f"{url}/moved/308/v1", "br": f"{url}/compressed/br/v1", "zstd": f"{url}/compressed/zstd/v1",
            "events": f"{url}/events/v1",
        }  # fmt: skip
        entries = {name: {"base_url": address, "model": "m"} for name, address in addresses.items()}
        (folder / "providers.json").write_text(json.dumps({"providers": entries}))
        more = {"METEOR_PROVIDERS_FILE": str(folder / "providers.json"), "METEOR_STRONG_PATIENCE": "PT60S"}
        more |= {"HTTP_PROXY": proxy_url, "HTTPS_PROXY": proxy_url, "NO_PROXY": "no-such-host.example.com"}
        more |= {name.lower(): value for name, value in more.items() if name.endswith("PROXY")}
        with running_gateway(teacher, folder, **more, METEOR_STRONG_DEADLINE="PT60S") as started:
            yield started


async def test_the_outside_is_asked_through_the_proxy_and_what_is_near_never(gateway: Gateway, proxy: Proxy):
    assert (await one(gateway, ask("near"))).text
    assert proxy.asked == [], "it would have read the provider's key"
    assert (await one(gateway, ask("far"), model="far")).text == "by the proxy"
    assert proxy.asked == ["provider.example.com"]


async def test_an_answer_that_comes_as_events_unasked_is_read(gateway: Gateway):
    assert (await one(gateway, ask("events"), model="events")).text == "as events"


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("nobody", ["no-such-host.example.com", "no such host", "base_url of 'nobody'"]),
        ("certificate", ["https://127.0.0.1", "certificate is not trusted", "METEOR_CA_BUNDLE"]),
        ("tls", ["https://127.0.0.1", "no encrypted connection", "base_url of 'tls'"]),
        ("moved", ["HTTP 307", "to http://elsewhere.example.com/v1", "base_url of 'moved'"]),
        ("moved-for-good", ["HTTP 308", "http://elsewhere.example.com/v1"]),
        ("br", ["compressed as 'br'"]),
        ("zstd", ["compressed as 'zstd'"]),
    ],
)
async def test_what_no_retry_mends_is_told_at_once_with_address_and_setting(
    gateway: Gateway, provider: str, words: list[str]
):
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        await one(gateway, ask(provider), model=provider)
    assert time.monotonic() - began < 15, "not after all the patience"
    assert caught.value.code == "teacher_misconfigured"
    assert [part for part in words if part not in caught.value.message] == []
    assert "planted" not in caught.value.message
    assert len([row for row in gateway.rows() if row.provider == provider]) == 1


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:1/v1", True), ("http://[::1]/v1", True), ("http://localhost", True), ("http://gateway:8200", True),
        ("http://192.168.1.9/v1", True), ("http://10.0.0.1", True), ("http://host.docker.internal:11434/v1", True),
        ("http://nas.local", True), ("https://api.openai.com/v1", False), ("http://8.8.8.8/v1", False),
    ],
)  # fmt: skip
def test_what_is_near(url: str, near: bool):
    assert is_near(url) is near


async def test_a_refused_connection_is_no_fault_of_the_settings():
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError) as caught:
            await client.get("http://127.0.0.1:1/")
    assert fault_of(caught.value) is None


# --- secrets ---

PLANTED = {
    "teacher key": "sk-planted-teacher-0001", "file key": "sk-planted-file-0002", "header": "planted-header-0003",
    "password": "planted-password-0004", "query": "planted-query-0005", "judge key": "sk-planted-judge-0006",
}  # fmt: skip


STATUSES = (400, 401, 403, 404, 429, 500)
NOBODY = FakeServer("http://127.0.0.1:1", Path("unused"))


def test_no_output_shows_a_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Before a provider whose errors quote everything that it was sent."""
    outputs: list[str] = []
    with on_a_thread(APP) as url:
        entries: dict[str, dict[str, str]] = {}
        for status in STATUSES:
            user = f"http://user:{PLANTED['password']}@{url.removeprefix('http://')}/echo/{status}/v1"
            keys = {"api_key_env": "TEAM_ONE", "headers_env": "TEAM_TWO"}
            entries[f"filed-{status}"] = {"base_url": user, "model": "m"} | keys
            entries[f"queried-{status}"] = {"base_url": f"{url}/echo/{status}/v1?key={PLANTED['query']}", "model": "m"}
        (tmp_path / "providers.json").write_text(json.dumps({"providers": entries}))
        more = {
            "METEOR_PROVIDERS_FILE": str(tmp_path / "providers.json"), "METEOR_STRONG_DEADLINE": "PT1S",
            "TEAM_ONE": f"{PLANTED['file key']}\n", "TEAM_TWO": json.dumps({"x-team": PLANTED["header"]}),
            "METEOR_TEACHER_BASE_URL": f"{url}/echo/401/v1", "METEOR_TEACHER_API_KEY": f" {PLANTED['teacher key']}\n",
            "METEOR_JUDGE_BASE_URL": f"http://127.0.0.1:1/v1?key={PLANTED['query']}",
            "METEOR_JUDGE_API_KEY": PLANTED["judge key"],
        }  # fmt: skip
        with running_gateway(NOBODY, tmp_path, **more) as gateway:
            headers = {"authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
                for name in ("default", "judge", *entries):
                    body = {"model": name, "messages": ask(name)}
                    outputs += [
                        client.post("/v1/chat/completions", json=body | {"stream": s}).text for s in (False, True)
                    ]
                outputs += [
                    client.get(path).text for path in ("/readyz", "/v1/models", "/internal/providers", "/metrics")
                ]
                outputs += [
                    client.post(f"/internal/providers/{name}/test").text for name in ("filed-401", "queried-500")
                ]
            assert {row.provider for row in gateway.rows()} == {"default", "judge", *entries}
    assert "not allowed" in "".join(outputs), "the provider's words are passed on"
    outputs += [file.read_bytes().decode("latin-1") for file in tmp_path.glob("ledger.sqlite3*")]
    outputs += list(capfd.readouterr())
    shown = {what for what, secret in PLANTED.items() for text in outputs if secret in text}
    assert shown == set()


@pytest.mark.parametrize("variable", ["METEOR_TEACHER_API_KEY", "TEAM_ONE", "TEAM_TWO"])
def test_a_key_that_no_header_carries_ends_the_start_by_its_variable(variable: str, tmp_path: Path, capfd):
    entry = {"base_url": FAR, "model": "m", "api_key_env": "TEAM_ONE", "headers_env": "TEAM_TWO"}
    (tmp_path / "providers.json").write_text(json.dumps({"providers": {"filed": entry}}))
    bad = json.dumps({"x-team": "planted\nvalue"}) if variable == "TEAM_TWO" else "sk-planted\nkey"
    more = {"METEOR_PROVIDERS_FILE": str(tmp_path / "providers.json"), "TEAM_ONE": "sk-good", "TEAM_TWO": "{}"}
    with (
        pytest.raises(AssertionError, match="ended with 1"),
        running_gateway(NOBODY, tmp_path, **more | {variable: bad}),
    ):
        pass
    said = capfd.readouterr().err
    assert variable in said
    assert "planted" not in said
