"""A user of several hosts: it asks the next one where one does not answer, and repeats with the same Idempotency-Key."""

import itertools
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import httpx

PATIENCE_S = 180.0
AGAIN = (409, 429, 500, 502, 503, 504)


class Client:
    def __init__(self, urls: Sequence[str], key: str):
        self.urls = list(urls)
        self._turns = itertools.count()
        headers = {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(headers=headers, timeout=15.0, trust_env=False, verify=False)

    def post(self, path: str, **content: Any) -> dict[str, Any]:
        """Until a host has answered. Raises RuntimeError for a refusal, TimeoutError after PATIENCE_S."""
        deadline, once = time.monotonic() + PATIENCE_S, {"idempotency-key": uuid.uuid4().hex}
        while time.monotonic() < deadline:
            url = self.urls[next(self._turns) % len(self.urls)]
            try:
                answer = self._http.post(f"{url}{path}", headers=once, **content)
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            if answer.is_success:
                return answer.json()
            if answer.status_code not in AGAIN:
                raise RuntimeError(f"POST {path} at {url}: {answer.status_code} {answer.text}")
            time.sleep(0.5)
        raise TimeoutError(f"no host answered POST {path} within {PATIENCE_S:.0f} s")

    def start_job(self, name: str, questions: int, seed: int, distillation: dict[str, Any]) -> str:
        """Upload questions that no job of another name has, and post the job; its id."""
        rows = [{"question": f"{name}: which number comes after {i}?", "reference": f"the number is {i + 1}"}
                for i in range(questions)]  # fmt: skip
        content = "\n".join(map(json.dumps, rows)).encode()
        file = self.post("/v1/files", files={"file": ("drill.jsonl", content)}, data={"purpose": "fine-tune"})
        body = {
            "model": "tiny",
            "training_file": file["id"],
            "suffix": name,
            "seed": seed,
            "distillation": distillation,
        }
        return self.post("/v1/distillation/jobs", json=body)["id"]

    def chat(self, url: str, model: str) -> bool:
        """Whether this host answers for a version."""
        body = {"model": model, "messages": [{"role": "user", "content": "which number comes after 7?"}]}
        return self._http.post(f"{url}/v1/chat/completions", json=body).status_code == 200
