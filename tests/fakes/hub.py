"""A hub for tests: the few routes that huggingface_hub asks to read a dataset or a model, over files in memory."""

import hashlib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

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
def running_hub(dataset: str, files: Mapping[str, bytes]) -> Generator[str]:
    """Its address, for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(dataset, files))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class HubRepository:
    """A model on the hub. access: public; gated (its page is public, its files are not); awaiting (a gated one whose owner has
    not said yes); private. allowed: tokens that may read it all the same."""

    files: Mapping[str, bytes]
    access: Literal["public", "gated", "awaiting", "private"] = "public"
    allowed: frozenset[str] = frozenset()


@dataclass
class ModelHub:
    """repositories by id. tokens: those that the hub knows. fails: a status for every request, with its words. cuts: so many
    times a file of weights breaks off in the middle. asked: paths, with the token of each."""

    repositories: dict[str, HubRepository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    fails: tuple[int, str] | None = None
    cuts: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def refusal(self, repo: str, token: str, of_file: bool) -> tuple[int, str, str] | None:
        """(status, x-error-code, words) as the hub gives them; None: allowed."""
        if token and token not in self.tokens:
            return 401, "", "Invalid credentials in Authorization header"
        model = self.repositories.get(repo)
        if model is None or (model.access == "private" and token not in model.allowed):
            return (404 if token else 401), "RepoNotFound", "Repository not found"
        if of_file and model.access in ("gated", "awaiting") and token not in model.allowed:
            words = f"Access to model {repo} is restricted and you are not in the authorized list"
            if model.access == "awaiting":
                words = f"Your request to access model {repo} is awaiting a review from the repo authors"
            return (403 if token else 401), "GatedRepo", f"{words}. Visit {self.url}/{repo} to ask for access."
        return None


def _model_handler(hub: ModelHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            if path == "/api/agent-harnesses":  # huggingface_hub asks it of its own, once a process and without a token
                return self._refuse(404, "", "Not found")
            hub.asked.append((path, token))
            if hub.fails:
                return self._refuse(hub.fails[0], "", hub.fails[1])
            of_file = "/resolve/" in path
            repo = path.removeprefix("/api/models/").removeprefix("/")
            repo = repo.partition("/resolve/")[0].partition("/revision/")[0].partition("/tree/")[0]
            refused = hub.refusal(repo, token, of_file)
            if refused:
                return self._refuse(*refused)
            files = hub.repositories[repo].files
            if "/tree/" in path:
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha256(content).hexdigest()}
                    for name, content in files.items()
                ]
                return self._send(200, json.dumps(tree).encode(), {"content-type": "application/json"})
            if not of_file:
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
                return self._send(200, json.dumps(info).encode(), {"content-type": "application/json"})
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            if name not in files:
                return self._refuse(404, "EntryNotFound", "Entry not found")
            content = files[name]
            etag = {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "x-repo-commit": COMMIT}
            if self.command == "GET" and name.endswith(".safetensors") and hub.cuts:
                hub.cuts -= 1
                return self._send(200, content[: len(content) // 2], etag | {"content-length": str(len(content))})
            self._send(200, content, etag)

        do_HEAD = do_GET

        def _refuse(self, status: int, code: str, words: str) -> None:
            headers = {"x-error-message": words} | ({"x-error-code": code} if code else {})
            headers |= {"retry-after": "300"} if status == 429 else {}
            self._send(status, json.dumps({"error": words}).encode(), headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    return Handler


@contextmanager
def running_model_hub(repositories: Mapping[str, HubRepository]) -> Generator[ModelHub]:
    hub = ModelHub(dict(repositories))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _model_handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
