"""The sleep guard in vLLM's server: who may put it to sleep, and who is turned away meanwhile. Over real HTTP, without a model."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.weak_model.engine.answer_probe import OF_PROBE
from services.weak_model.engine.sleep import SleepControl
from services.weak_model.sleep_guard import Message, Receive, Scope, Send, SleepGuard
from shared.contracts.engine import SleepMode
from shared.contracts.errors import TransientError
from tests.fakes.on_a_thread import on_a_thread
from tests.fakes.sleeping_engine import make_app

TOKEN = "engine-token"
ASKED = {"model": "m", "prompt": "p", "max_tokens": 2}


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("VLLM_API_KEY", TOKEN)
    with on_a_thread(make_app(tmp_path, "m")) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
        yield client


def test_others_are_turned_away_from_falling_asleep_until_the_guard_is_opened(
    url: str, http: httpx.Client, tmp_path: Path
):
    sleep = SleepControl(url, TOKEN)
    sleep.look()
    assert (sleep.mode.available, sleep.mode.reason) == (True, None)
    assert http.post("/v1/completions", json=ASKED).status_code == 200
    assert sleep.sleep()
    assert (tmp_path / "asleep").read_text() == "1"
    refused = http.post("/v1/completions", json=ASKED)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert "lends its device" in refused.json()["error"]["message"]
    assert http.get("/health").status_code == 200
    sleep.wake()
    assert not (tmp_path / "asleep").exists()
    assert http.post("/v1/completions", json=ASKED).status_code == 503
    assert http.post("/v1/completions", json=ASKED, headers=OF_PROBE).status_code == 200
    sleep.open()
    assert http.post("/v1/completions", json=ASKED).status_code == 200


def test_each_of_its_routes_wants_the_token(url: str, http: httpx.Client):
    for method, path in (("GET", "/sleep_mode"), ("POST", "/sleep"), ("POST", "/wake_up"), ("POST", "/open")):
        answer = httpx.request(method, f"{url}{path}", headers={"authorization": "Bearer wrong"}, trust_env=False)
        assert answer.status_code == 401, path
    assert http.post("/v1/completions", json=ASKED).status_code == 200


def test_it_does_not_sleep_before_the_requests_on_their_way_have_ended(http: httpx.Client, tmp_path: Path):
    """Where they take too long it stays awake."""
    app = make_app(tmp_path, "m")
    begun, end = threading.Event(), threading.Event()

    def slow(_: Request) -> Response:
        begun.set()
        return Response(status_code=200 if end.wait(10) else 504)

    app.add_route("/v1/slow", slow, methods=["POST"])
    with on_a_thread(app) as busy, httpx.Client(base_url=busy, headers=http.headers, trust_env=False) as client:
        asked = threading.Thread(target=lambda: client.post("/v1/slow"))
        asked.start()
        assert begun.wait(10)
        refused = client.post("/sleep?drain_s=0.1")
        assert (refused.status_code, "1 requests have not ended" in refused.text) == (409, True)
        assert client.post("/v1/completions", json=ASKED).status_code == 200  # it is open again
        threading.Timer(0.2, end.set).start()
        assert client.post("/sleep?drain_s=9").status_code == 200
        asked.join()


def test_a_server_without_sleep_mode_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_API_KEY", TOKEN)
    with on_a_thread(make_app(tmp_path, "m", can_sleep=False)) as url:
        sleep = SleepControl(url, TOKEN)
        sleep.look()
        assert (sleep.mode.available, sleep.mode.reason) == (False, "vLLM was started without sleep mode")
        assert not sleep.sleep()
        answer = httpx.post(f"{url}/sleep", headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False)
        assert answer.status_code == 501


def test_what_is_known_before_is_not_asked():
    sleep = SleepControl("http://127.0.0.1:1", TOKEN, "vLLM has no sleep mode on a CPU")
    sleep.look()
    assert (sleep.mode.available, sleep.mode.reason) == (False, "vLLM has no sleep mode on a CPU")
    silent = SleepControl("http://127.0.0.1:1", TOKEN)
    silent.look()
    assert (silent.mode.available, "does not say" in (silent.mode.reason or "")) == (False, True)
    with pytest.raises(TransientError, match="/wake_up"):
        silent.wake()


def test_only_what_needs_no_device_passes_a_closed_guard(http: httpx.Client, tmp_path: Path):
    app = make_app(tmp_path, "m")
    for path in ("/tokenize", "/version"):
        app.add_route(path, lambda _: Response(), methods=["GET"])
    paths = ("/health", "/metrics", "/version", "/tokenize", "/v1/models")
    with on_a_thread(app) as url, httpx.Client(base_url=url, headers=http.headers, trust_env=False) as client:
        assert [client.get(path).status_code for path in paths] == [200] * 5
        assert client.post("/sleep").status_code == 200
        assert [client.get(path).status_code for path in paths] == [200, 200, 200, 503, 503]


def test_an_answer_that_is_no_json_is_no_sleep():
    app = Starlette(routes=[Route("/sleep", lambda _: PlainTextResponse("<html>"), methods=["POST"])])
    with on_a_thread(app) as url:
        sleep = SleepControl(url, TOKEN)
        sleep.mode = SleepMode(available=True)
        assert not sleep.sleep()


async def test_a_web_socket_is_closed_while_the_guard_is_closed():
    reached, sent = [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guard, scope = SleepGuard(app), {"type": "websocket", "path": "/v1/realtime", "headers": []}
    await guard(scope, receive, send)
    guard._open = False
    await guard(scope, receive, send)
    assert (reached, sent) == (["/v1/realtime"], [{"type": "websocket.close", "code": 1013}])
