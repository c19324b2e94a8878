"""A model hub for tests: the few routes that huggingface_hub asks to read a dataset, over files in memory."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "c" * 40


def _handler(dataset: str, files: Mapping[str, bytes]) -> type[BaseHTTPRequestHandler]:
    siblings = [{"rfilename": name} for name in files]
    info = {"id": dataset, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "cc0-1.0"}, "tags": []}
    info |= {"private": False, "downloads": 0, "likes": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            at = f"/datasets/{dataset}/resolve/{COMMIT}/"
            if path.startswith(f"/api/datasets/{dataset}"):
                self._send(200, json.dumps(info).encode(), {"content-type": "application/json"})
            elif path.startswith(at) and path.removeprefix(at) in files:
                content = files[path.removeprefix(at)]
                self._send(200, content, {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "x-repo-commit": COMMIT})
            else:
                self._send(404, b"{}", {"x-error-code": "RepoNotFound"})

        do_HEAD = do_GET

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    return Handler


@contextmanager
def running_hub(dataset: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Its address, for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(dataset, files))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
