"""Records the examples of openapi.json from the running API: `python -m tests.examples`, then `make openapi`."""

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.contract.conftest import BASE, KEY, rows, running_api
from tests.fakes.vllm import running_vllm

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "services/api/examples.json"
Recorded = dict[str, dict[str, Any]]


class Recorder:
    """Sends requests by the document's paths and keeps the first answer of each operation, and of each refusal."""

    def __init__(self, url: str, key: str = KEY):
        self.calls: Recorded = {}
        self.errors: Recorded = {}
        self.paths = json.loads((ROOT / "openapi.json").read_text())["paths"]
        headers = {"authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def send(self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None, **ids: str) -> Any:
        answer = self.http.request(method, path.format(**ids), json=json, headers=headers)
        return self._keep(method, path, answer, json)

    def upload(self, content: bytes) -> Any:
        files, data = {"file": ("sums.jsonl", content)}, {"purpose": "fine-tune"}
        return self._keep("POST", "/v1/files", self.http.post("/v1/files", files=files, data=data), None)

    def _keep(self, method: str, path: str, answer: httpx.Response, body: Any) -> Any:
        if answer.status_code >= 400:
            self.errors.setdefault(str(answer.status_code), answer.json())
            return answer.json()
        media = answer.headers["content-type"].partition(";")[0]
        kept = {"status": answer.status_code, "media_type": media}
        kept["response"] = answer.json() if media == "application/json" else answer.text
        if body is not None:
            kept["request"] = body
        self.calls.setdefault(self.paths[path][method.lower()]["operationId"], kept)
        return kept["response"]


def record(url: str) -> Recorded:
    """The same calls in the same order each time."""
    to = Recorder(url)
    file = to.upload(rows(60))["id"]
    to.send("GET", "/v1/files/{file_id}", file_id=file)
    to.send("POST", "/v1/files/{file_id}/validate", file_id=file)
    to.send("GET", "/v1/files")
    job = {"model": BASE, "training_file": file, "suffix": "sums", "distillation": {"domain": "sums of small numbers"}}
    made = to.send("POST", "/v1/distillation/jobs", job)["id"]
    for prefix in ("/v1/distillation/jobs", "/v1/fine_tuning/jobs"):
        to.send("GET", prefix)
        to.send("GET", prefix + "/{job_id}", job_id=made)
        to.send("GET", prefix + "/{job_id}/events", job_id=made)
    to.send("PATCH", "/v1/distillation/jobs/{job_id}", {"distillation": {"budget": {"max_usd": 5}}}, job_id=made)
    for path in ("usage", "steps"):
        to.send("GET", "/v1/distillation/jobs/{job_id}/" + path, job_id=made)
    to.send("POST", "/v1/distillation/jobs/{job_id}/pause", job_id=made)
    to.send("POST", "/v1/distillation/jobs/{job_id}/resume", job_id=made)
    to.send("POST", "/v1/distillation/jobs/{job_id}/cancel", job_id=made)
    experiment = to.send("POST", "/v1/experiments", {"job": job, "preset": "strategies"})["id"]
    to.send("GET", "/v1/experiments/{experiment_id}", experiment_id=experiment)
    equal = {"type": "string_check", "name": "equal", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
    schema = {"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"}}}
    config = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
    sums = {"name": "sums", "data_source_config": config, "testing_criteria": [equal | {"operation": "eq"}]}
    eval_id = to.send("POST", "/v1/evals", sums)["id"]
    content = {"type": "file_content", "content": [{"item": {"question": "What is 2 plus 2?", "answer": "4"}}]}
    asked = {"data_source": {"type": "completions", "model": BASE, "source": content}}
    run = to.send("POST", "/v1/evals/{eval_id}/runs", asked, eval_id=eval_id)["id"]
    to.send("GET", "/v1/evals/{eval_id}/runs/{run_id}", eval_id=eval_id, run_id=run)
    graders = "/v1/fine_tuning/alpha/graders"
    grader = {
        "type": "string_check",
        "input": "{{sample.output_text}}",
        "reference": "{{item.label}}",
        "operation": "eq",
    }
    to.send("GET", "/v1/graders")
    to.send("POST", graders + "/validate", {"grader": grader})
    number = {"grader": {"type": "number"}, "model_sample": "It is 1,200.", "item": {"reference": "1200"}}
    to.send("POST", graders + "/run", number)
    label = {"question": "List all files.", "first": "ls", "second": "ls -a", "preferred": "second"}
    to.send("POST", "/v1/labels", {"labels": [label]})
    to.send("GET", "/v1/labels")
    to.send("GET", "/v1/models")
    to.send("GET", "/v1/models/{model}", model=BASE)
    ask = {"model": BASE, "messages": [{"role": "user", "content": "What is 2 plus 2?"}]}
    to.send("POST", "/v1/chat/completions", ask)
    kept = to.send(
        "POST", "/v1/chat/completions", ask | {"store": True, "metadata": {"page": "sums"}, "user": "user-17"}
    )
    kept_id = kept["id"]
    chats = "/v1/chat/completions"
    to.send("GET", chats)
    to.send("GET", chats + "/{completion_id}", completion_id=kept_id)
    to.send("GET", chats + "/{completion_id}/messages", completion_id=kept_id)
    to.send("POST", chats + "/{completion_id}", {"metadata": {"page": "numbers"}}, completion_id=kept_id)
    better = {"completion_id": kept_id, "rating": "down", "correction": "4", "comment": "It echoes the question."}
    to.send("POST", "/v1/feedback", better)
    to.send("GET", "/v1/feedback")
    of_chats = {"source": {"type": "completions", "model": BASE, "feedback": ["down", "corrected"]}}
    to.send("POST", "/v1/imports", of_chats)
    to.send("POST", "/v1/forget", {"user": "user-17"})
    to.send("GET", "/healthz")
    to.send("POST", "/v1/distillation/jobs", job | {"model": "nobody"})
    to.send("POST", "/v1/distillation/jobs/{job_id}/resume", job_id=made)
    to.send("GET", "/v1/files/{file_id}", file_id="file-nobody")
    to.send("GET", "/v1/files", headers={"authorization": "Bearer wrong"})
    to.http.close()
    return {"calls": to.calls, "errors": to.errors}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_vllm({BASE}) as engine,
        running_api(Path(folder), METEOR_API_ENGINE_URL=engine.url) as api,
    ):
        RECORDED.write_text(json.dumps(record(api.url), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
