"""A model hub that takes pushes: the few routes that huggingface_hub's upload_folder asks. All files come inside the commit, as
small ones do; the protocol for large ones (Xet) is not spoken."""

import base64
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PushHub:
    """files: what the last commit of each repository brought. tokens: all that callers sent. refuses: a status to answer with."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: set[str] = set()
        self.refuses: int | None = None
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if self.refuses:
            return self.refuses, {"error": "You do not have the rights."}
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
            self.private[repo] = wanted.get("visibility") == "private"
            return 200, {"url": f"{self.url}/{repo}", "name": repo}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            how = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return 200, {"files": [{"path": name} | how for name in names]}
        if "/commit/" in path:
            return 200, self._commit(path.removeprefix("/api/models/").partition("/commit/")[0], body)
        if method == "GET" and path.startswith("/api/models/"):
            return 200, {"id": path.removeprefix("/api/models/"), "siblings": [], "sha": "0" * 40}
        return 404, {"error": f"{method} {path}"}

    def _commit(self, repo: str, body: bytes) -> dict[str, Any]:
        files = self.files[repo] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        return {"commitUrl": f"{self.url}/{repo}/commit/{'1' * 40}", "commitOid": "1" * 40, "pullRequestUrl": None}


@contextmanager
def running_push_hub() -> Generator[PushHub]:
    hub = PushHub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            hub.tokens.add(self.headers.get("authorization", "").removeprefix("Bearer "))
            status, value = hub.answer(self.command, self.path, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
