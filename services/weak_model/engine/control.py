"""The engine's control port: POST /serve requests a model, POST /lend and /return are for trainings that share the device, GET /status returns
the state, GET /metrics is for Prometheus. Without a framework, to stay small."""

import hmac
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel, ValidationError

from services.weak_model.engine.model_scheduler import ModelScheduler
from shared.contracts.engine import DeviceRequest, ModelRequest
from shared.contracts.errors import TYPE_OF_STATUS, ErrorBody, ErrorResponse

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
MAX_BYTES = 4096  # of a body
READ_TIMEOUT_S = 5.0  # for a caller that does not finish its request
ROUTES = "the routes are GET /status, GET /metrics, POST /serve, POST /lend and POST /return"


class Control(ThreadingHTTPServer):
    """is_known: whether a name is a model of this deployment; only such names reach the engine's command line. lends: whether trainings may
    have the device."""

    daemon_threads = True

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        scheduler: ModelScheduler,
        is_known: Callable[[str], bool],
        lends: bool = False,
    ):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.token = token
        self.scheduler = scheduler
        self.is_known = is_known
        self.lends = lends
        self.metrics: Callable[[], bytes] = bytes

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Control  # pyrefly: ignore[bad-override-mutable-attribute]
    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_S

    def do_GET(self) -> None:
        if self.path == "/metrics":
            return self._write(HTTPStatus.OK, self.server.metrics(), PROMETHEUS)
        if self.path != "/status":
            return self._refuse(HTTPStatus.NOT_FOUND, ROUTES)
        self._send(HTTPStatus.OK, self.server.scheduler.status())

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BYTES:
            self.close_connection = True
            return self._refuse(HTTPStatus.BAD_REQUEST, f"a body of at most {MAX_BYTES} bytes is needed")
        body = self.rfile.read(int(length))
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if self.server.token and not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return self._refuse(HTTPStatus.UNAUTHORIZED, "the internal token is needed")
        answer = {"/serve": self._serve, "/lend": self._lend, "/return": self._return}.get(self.path)
        if answer is None:
            return self._refuse(HTTPStatus.NOT_FOUND, ROUTES)
        try:
            answer(body)
        except ValidationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error.errors()[0]["msg"]))

    def _serve(self, body: bytes) -> None:
        request = ModelRequest.model_validate_json(body)
        if not self.server.is_known(request.model):
            return self._refuse(HTTPStatus.NOT_FOUND, f"this engine knows no model {request.model!r}", "model")
        self._send(HTTPStatus.OK, self.server.scheduler.request(request.model, request.seconds))

    def _lend(self, body: bytes) -> None:
        request = DeviceRequest.model_validate_json(body)
        if not self.server.lends:
            words = "METEOR_DEVICE_SHARING of this engine is not `time`; set the same value for engine and trainer"
            return self._refuse(HTTPStatus.CONFLICT, words)
        self._send(HTTPStatus.OK, self.server.scheduler.borrow(request.borrower, request.seconds, request.held))

    def _return(self, body: bytes) -> None:
        request = DeviceRequest.model_validate_json(body)
        self._send(HTTPStatus.OK, self.server.scheduler.give_back(request.borrower))

    def _refuse(self, status: HTTPStatus, message: str, param: str | None = None) -> None:
        kind = TYPE_OF_STATUS.get(status, "server_error")
        error = ErrorBody(message=message, type=kind, param=param, code=status.name.lower())
        self._send(status, ErrorResponse(error=error))

    def _send(self, status: HTTPStatus, body: BaseModel) -> None:
        self._write(status, body.model_dump_json().encode(), "application/json")

    def _write(self, status: HTTPStatus, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """No access log: callers ask every second."""
