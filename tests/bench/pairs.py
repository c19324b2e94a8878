"""Every kind of student with every kind of teacher, as a newcomer would: `python -m tests.bench.pairs`.

Tiny students with the families' own traits (tests/fakes/zoo.py), teachers that behave as the providers' documentation says
(tests/fakes/providers), everything else real: all services, vLLM, training. One job a pair. It prints a line of JSON for each: how it
ended, how long posting and job took, and of a refusal what is to be changed. Exit code 1 where a job is refused after more than
ten seconds, or fails once it was accepted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from services.local.supervisor.runner import Runner
from tests.e2e.conftest import FINAL, SMALL
from tests.fakes import zoo
from tests.fakes.ports import free_port
from tests.fakes.providers.server import KEY, providers_file, simulated_providers

STUDENTS = ("qwen3", "gemma2", "mistral", "gemma3")
TEACHERS = ("gpt-5", "claude-opus", "gemini", "ollama")
REFUSED_S = 10.0
ONE_PHASE = {
    "phases": ["distill"],
    "guidance": "weak",
    "evaluation": {"baselines": [], "graders": ["chrf"], "forgetting": 0},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", default=",".join(STUDENTS), help="families of tests/fakes/zoo.py")
    parser.add_argument("--teachers", default=",".join(TEACHERS), help="providers of tests/fakes/providers/table.py")
    given = parser.parse_args()
    students, teachers = given.students.split(","), given.teachers.split(",")
    with tempfile.TemporaryDirectory(prefix="meteor-pairs-") as scratch, simulated_providers() as servers:
        folder = Path(scratch)
        folders = {name: zoo.make(name, folder / name) for name in students}
        table = providers_file(servers)
        (folder / "providers.json").write_text(json.dumps(table))
        first, *others = students
        environment = {
            "METEOR_STUDENT_MODEL": first,
            "METEOR_STUDENT_PATH": str(folders[first]),
            "METEOR_STUDENTS": ",".join(f"{name}={folders[name]}" for name in others),
            "METEOR_PROVIDERS_FILE": str(folder / "providers.json"),
            "SIMULATED_KEY": KEY,
            "METEOR_TEACHER_BASE_URL": table["providers"]["plain"]["base_url"],
            "METEOR_TEACHER_MODEL": "plain",
            "METEOR_TEACHER_API_KEY": KEY,
            "METEOR_API_PORT": str(free_port()),
            "METEOR_ENGINE_MAX_MODEL_LEN": "512",
        }
        environment["METEOR_MODELS"] = str(folder / "models")
        for made in folders.values():
            pull = [sys.executable, "-m", "services.local", "models", "pull", str(made)]
            subprocess.run(pull, env=os.environ | environment, check=True, stdout=sys.stderr)
        with Runner(folder / "run", os.environ | environment) as runner:
            runner.start(wait_s=None)
            runner.wait_ready(600)
            with httpx.Client(base_url=runner.urls["api"], timeout=60) as client:
                ended = [tried(client, student, teacher) for student in students for teacher in teachers]
    return int(not all(ended))


def tried(client: httpx.Client, student: str, teacher: str) -> bool:
    rows = [{"question": f"{student} {teacher}: what is {n}?", "reference": "the number is seven"} for n in range(60)]
    content = "\n".join(map(json.dumps, rows)).encode()
    stored = client.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"}).json()
    spec = SMALL | ONE_PHASE | {"teacher": {"provider": teacher, "max_tokens": 32}, "judge": {"provider": teacher}}
    body: dict[str, Any] = {"model": student, "training_file": stored["id"], "suffix": "pair", "distillation": spec}
    began = time.monotonic()
    answer = client.post("/v1/distillation/jobs", json=body)
    posted_s = time.monotonic() - began
    told: dict[str, Any] = {"student": student, "teacher": teacher, "posted_s": round(posted_s, 2)}
    if answer.status_code == 201:
        job = _ended(client, answer.json()["id"])
        told |= {"status": job["status"], "job_s": round(time.monotonic() - began, 1), "model": job["fine_tuned_model"]}
        told |= {"error": job["error"]["message"]} if job["error"] else {}
        good = job["status"] == "succeeded"
        if good and job["fine_tuned_model"]:
            chat = {"model": job["fine_tuned_model"], "messages": [{"role": "user", "content": rows[0]["question"]}]}
            told["answer"] = client.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"][
                :60
            ]
    else:
        error = answer.json()["error"]
        told |= {"status": "refused", "errors": [one["message"] for one in error.get("errors", [error])]}
        good = posted_s <= REFUSED_S
    sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    return good


def _ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    while True:
        job = client.get(f"/v1/distillation/jobs/{job_id}", params={"wait": 30}).json()
        if job["status"] in FINAL:
            return job


if __name__ == "__main__":
    raise SystemExit(main())
