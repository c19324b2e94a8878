"""A webhook's receiver: an HTTP server that keeps what it was sent and answers as it is told to."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Message:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """answers: by path, the statuses of the next requests; after them 200. slow: seconds before an answer, by path."""

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def at(self, path: str) -> list[Message]:
        return [message for message in self.messages if message.path == path]


@contextmanager
def receiving() -> Generator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.messages.append(Message(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            time.sleep(receiver.slow.get(self.path, 0))
            waiting = receiver.answers.get(self.path, [])
            self.send_response(waiting.pop(0) if waiting else 200)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Tests read what was kept."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
