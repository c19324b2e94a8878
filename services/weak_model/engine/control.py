"""The engine's control port: POST /serve asks for a model, GET /status tells. Two routes, no framework: the keeper is small."""

import hmac
import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import ValidationError

from services.weak_model.engine.model_scheduler import ModelScheduler
from shared.contracts.engine import ModelRequest
from shared.contracts.errors import TYPE_OF_STATUS, ErrorBody

LONGEST = 4096  # bytes of a body
PATIENCE_S = 5.0  # with a caller that does not finish its request


class Control(ThreadingHTTPServer):
    """known: whether a name is a model of this deployment; only such names reach the engine's command line."""

    daemon_threads = True

    def __init__(self, host: str, port: int, token: str, choice: ModelScheduler, known: Callable[[str], bool]):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.token = token
        self.choice = choice
        self.known = known

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Control  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        if self.path != "/status":
            return self._refuse(HTTPStatus.NOT_FOUND, "GET /status and POST /serve are all there is")
        self._send(HTTPStatus.OK, self.server.choice.status().model_dump(mode="json"))

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST:
            self.close_connection = True
            return self._refuse(HTTPStatus.BAD_REQUEST, f"a body of at most {LONGEST} bytes is needed")
        body = self.rfile.read(int(length))
        given = self.headers.get("authorization", "").removeprefix("Bearer ")
        if self.server.token and not hmac.compare_digest(given.encode(), self.server.token.encode()):
            return self._refuse(HTTPStatus.UNAUTHORIZED, "the internal token is needed")
        if self.path != "/serve":
            return self._refuse(HTTPStatus.NOT_FOUND, "GET /status and POST /serve are all there is")
        try:
            wish = ModelRequest.model_validate_json(body)
        except ValidationError as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error.errors()[0]["msg"]))
        if not self.server.known(wish.model):
            return self._refuse(HTTPStatus.NOT_FOUND, f"this engine knows no model {wish.model!r}", "model")
        self._send(HTTPStatus.OK, self.server.choice.ask(wish.model, wish.seconds).model_dump(mode="json"))

    def _refuse(self, status: HTTPStatus, message: str, param: str | None = None) -> None:
        kind = TYPE_OF_STATUS.get(status, "server_error")
        error = ErrorBody(message=message, type=kind, param=param, code=status.name.lower())
        self._send(status, {"error": error.model_dump()})

    def _send(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Callers ask every second; nothing is written down for it."""
