"""OpenAI's batch API on the fake server: files, batches, and what can go wrong with them.

A batch is computed at the first look at it after `batch_s` seconds (POST /settings). Each of its requests is in the log like any
other, under the call's id.
"""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.faults import Faults

WAITING = ("validating", "in_progress", "cancelling")
Compute = Callable[[str, dict[str, Any]], dict[str, Any]]  # (request id, body) -> completion


def refused(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "error", "param": None, "code": None}}, status)


class FakeBatches:
    def __init__(self, compute: Compute, faults: Faults, allowed: Callable[[Request], bool]):
        self.compute = compute
        self.faults = faults
        self.allowed = allowed
        self.batch_s = 0.0
        self.files: dict[str, str] = {}
        self.filenames: dict[str, str] = {}  # of uploaded ones
        self.batches: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files", self.list_files),
            Route("/v1/files/{name}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{name}/content", self.content),
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.list_batches),
            Route("/v1/batches/{name}", self.get),
            Route("/v1/batches/{name}/cancel", self.cancel, methods=["POST"]),
            Route("/batches", self.everything),
        ]

    def _closed(self, request: Request) -> Response | None:
        if not self.allowed(request):
            return refused(401, "wrong API key")
        if self.faults.draw("batch_away"):
            return refused(503, "overloaded")
        return refused(404, "no such route") if self.faults.draw("batch_unknown") else None

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            assert form["purpose"] == "batch"
            file = form["file"]
            assert isinstance(file, UploadFile)
            text = (await file.read()).decode()
            filename = str(file.filename)
        if (closed := self._closed(request)) is not None:
            return closed
        name = self._file(text)
        self.filenames[name] = filename
        return (
            refused(500, "something broke") if self.faults.draw("batch_file_lost") else JSONResponse(self._shown(name))
        )

    def _shown(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "file", "purpose": "batch", "filename": self.filenames[name]}

    async def list_files(self, request: Request) -> Response:
        return self._closed(request) or _page(request, [self._shown(name) for name in self.filenames][::-1])

    def _file(self, text: str) -> str:
        name = f"file-{next(self._numbers)}"
        self.files[name] = text
        return name

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        if self.faults.draw("batch_file_stays"):
            return refused(500, "something broke")
        self.filenames.pop(name, None)
        gone = self.files.pop(name, None) is None
        return refused(404, f"no such file: {name}") if gone else JSONResponse({"deleted": True})

    async def content(self, request: Request) -> Response:
        return self._closed(request) or PlainTextResponse(self.files[request.path_params["name"]])

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        if (closed := self._closed(request)) is not None:
            return closed
        assert asked["endpoint"] == "/v1/chat/completions"
        total = len(self.files[asked["input_file_id"]].splitlines())
        batch = asked | {"id": f"batch_{next(self._numbers)}", "object": "batch", "status": "in_progress"}
        batch |= {"created_at": int(time.time()), "begun": time.time()}
        batch |= {"request_counts": {"total": total, "completed": 0, "failed": 0}}
        for kind, code in (("batch_failed", "invalid_json_line"), ("batch_full", "token_limit_exceeded")):
            if self.faults.draw(kind):
                batch |= {"status": "failed", "errors": {"data": [{"code": code, "message": f"as told: {code}"}]}}
        self.batches[batch["id"]] = batch
        return refused(500, "something broke") if self.faults.draw("batch_lost") else JSONResponse(batch)

    async def list_batches(self, request: Request) -> Response:
        return self._closed(request) or _page(request, list(self.batches.values())[::-1])

    async def get(self, request: Request) -> Response:
        if (closed := self._closed(request)) is not None:
            return closed
        batch = self.batches[request.path_params["name"]]
        if batch["status"] in WAITING and time.time() >= batch["begun"] + self.batch_s:
            self._finish(batch)
        return JSONResponse(batch)

    async def cancel(self, request: Request) -> Response:
        batch = self.batches[request.path_params["name"]]
        batch["status"] = "cancelling"
        return JSONResponse(batch)

    async def everything(self, _: Request) -> Response:
        """For tests: all batches, and the names of the files that are still there."""
        return JSONResponse({"batches": list(self.batches.values()), "files": sorted(self.files)})

    def _finish(self, batch: dict[str, Any]) -> None:
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        cut = batch["status"] == "cancelling" or self.faults.draw("batch_expired")
        done, rest = (rows[: len(rows) // 2], rows[len(rows) // 2 :]) if cut else (rows, [])
        answers, errors = [], []
        for row in done:
            if self.faults.draw("batch_row"):
                broken = {"error": {"message": "something broke", "code": "server_error"}}
                errors.append(_line(row, {"status_code": 500, "body": broken}, None))
            elif "top_p" in row["body"] and self.faults.draw("batch_field"):
                broken = {"error": {"message": "top_p is not supported with this model", "param": "top_p"}}
                errors.append(_line(row, {"status_code": 400, "body": broken}, None))
            else:
                body = self.compute(row["custom_id"], row["body"])
                answers.append(_line(row, {"status_code": 200, "body": body}, None))
        end = ("cancelled" if batch["status"] == "cancelling" else "expired") if cut else "completed"
        errors += [_line(row, None, {"code": f"batch_{end}", "message": "not in time"}) for row in rest]
        batch["status"] = end
        counts = {"total": len(rows), "completed": len(answers), "failed": len(errors)}
        batch |= {"request_counts": counts}
        batch |= {"output_file_id": self._file("\n".join(answers))} if answers else {}
        batch |= {"error_file_id": self._file("\n".join(errors) + "\n")} if errors else {}


def _page(request: Request, newest_first: list[dict[str, Any]]) -> Response:
    ids = [row["id"] for row in newest_first]
    after = request.query_params.get("after")
    start = ids.index(after) + 1 if after else 0
    limit = int(request.query_params.get("limit", 20))
    page = newest_first[start : start + limit]
    return JSONResponse({"object": "list", "data": page, "has_more": start + limit < len(ids)})


def _line(row: dict[str, Any], response: dict[str, Any] | None, error: dict[str, Any] | None) -> str:
    return json.dumps(
        {"id": f"r-{row['custom_id']}", "custom_id": row["custom_id"], "response": response, "error": error}
    )
