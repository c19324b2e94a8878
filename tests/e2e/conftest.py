"""The whole system, started once: all services as processes, a real broker, a real vLLM with a tiny random student, the
fake teacher over HTTP. Only the models are small."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services.local.supervisor.processes import family
from services.local.supervisor.runner import Runner
from shared.artifacts.store import Artifacts
from shared.jobs.schema import open_stores
from tests.fakes.ports import free_port
from tests.fakes.start import FakeServer, start_teacher
from tests.fakes.tiny_model import make_tiny_llama

PLANTED = {  # secrets that test_secrets looks for
    "teacher key": "sk-planted-teacher-0001",
    "header": "planted-header-0002",
    "password": "planted-password-0003",
    "query key": "planted-query-0004",
    "file key": "sk-planted-file-0005",
    "hub token": "hf_plantedtoken0006",
}
FINAL = ("succeeded", "failed", "cancelled")
SMALL: dict[str, Any] = {
    "domain": "numbers",
    "primary_metric": "chrf",
    "guidance": "weak",
    "batch_size": 8,
    "answer_tokens": 16,
    "adapter": {"rank": 8, "alpha": 16, "max_length": 256},
    "teacher": {"max_tokens": 32},
    "judge": {"grader": "chrf", "pass_mark": 0.9, "max_tokens": 64},
    "distill": {"questions": 24, "guideline_tokens": 16, "epochs": 8, "learning_rate": 5e-3},
    "iterate": {"questions": 8, "tries": 2, "on_failure": "teacher", "epochs": 1, "learning_rate": 1e-4},
    "evolve": {"questions": 8, "beam_width": 2, "epochs": 1, "learning_rate": 1e-4},
    "evaluation": {"shots": 2, "forgetting": 8, "graders": ["chrf", "string_check"], "baselines": ["few_shot"]},
}


def body_of(file_id: str, suffix: str, changes: dict[str, Any]) -> dict[str, Any]:
    """changes: to SMALL. An `evaluation` among them keeps SMALL's number of general questions: by default a job asks 120 of two models."""
    model = changes.pop("model", "tiny")
    general = {"forgetting": SMALL["evaluation"]["forgetting"]}
    evaluation = general | changes.pop("evaluation", SMALL["evaluation"])
    distillation = SMALL | changes | {"evaluation": evaluation}
    return {"model": model, "training_file": file_id, "suffix": suffix, "distillation": distillation}


@dataclass
class System:
    """A running METEOR as its user sees it, and the hands to break it."""

    runner: Runner
    teacher: FakeServer
    client: httpx.Client
    data: Path
    before_the_engine: dict[str, Any] = field(default_factory=dict)  # a job from when vLLM could not start

    def upload(self, name: str, n: int = 80) -> str:
        """n questions that no other upload has, so that no result is taken over; the answer is always the same word."""
        rows = [
            {"question": f"{name}: which number comes after {i}?", "reference": "the number is seven"} for i in range(n)
        ]
        content = "\n".join(json.dumps(row) for row in rows).encode()
        answer = self.client.post(
            "/v1/files", files={"file": (f"{name}.jsonl", content)}, data={"purpose": "fine-tune"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def check(self, file_id: str, suffix: str, **changes: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/distillation/jobs/check", json=body_of(file_id, suffix, changes))
        assert answer.json()["ok"], answer.text
        return answer.json()

    def post(self, file_id: str, suffix: str, **changes: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/distillation/jobs", json=body_of(file_id, suffix, changes))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"/v1/distillation/jobs/{job_id}").json()

    def steps(self, job_id: str) -> list[dict[str, Any]]:
        return self.client.get(f"/v1/distillation/jobs/{job_id}/steps").json()["data"]

    def report(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"/v1/distillation/jobs/{job_id}/report").json()

    def messages(self, job_id: str) -> list[str]:
        events = self.client.get(f"/v1/distillation/jobs/{job_id}/events", params={"limit": 100}).json()["data"]
        return [event["message"] for event in reversed(events)]

    def wait(self, job_id: str, timeout_s: float = 900) -> dict[str, Any]:
        """Until the job has ended. timeout_s: long, for the machine may do other work beside."""
        return self.until(
            lambda: (job := self.job(job_id))["status"] in FINAL and job, timeout_s, lambda: self.describe(job_id)
        )

    def until(self, condition, timeout_s: float, describe=lambda: "") -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"did not come within {timeout_s} s: {describe()}"
            time.sleep(0.25)
        return value

    def describe(self, job_id: str) -> str:
        running = [s["key"] for s in self.steps(job_id) if s["state"] in ("running", "queued")]
        return f"{self.job(job_id)['status']}; open steps {running}; {self.messages(job_id)[-3:]}"

    def mend(self) -> None:
        """The teacher makes no faults, and the API answers, also after a test that failed between a kill and the restart."""
        self.teacher.heal()
        self.until(self.answers, 60)

    def answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self, name: str) -> None:
        """SIGKILL to the service itself (its guard lives on, takes the children along, and the runner starts it anew)."""
        self.processes(name)[0].children()[0].send_signal(signal.SIGKILL)

    def processes(self, name: str) -> list[psutil.Process]:
        """A service's guard and all below it."""
        guard_pid = self.runner.children[name].pid
        assert guard_pid is not None
        return family(guard_pid)

    def adapter_of(self, step_id: str) -> str:
        """The content hash of what a finished training step made."""
        row = open_stores(f"sqlite:///{self.data / 'meteor.sqlite3'}").steps.get(step_id)
        assert row is not None
        return Artifacts(self.data / "artifacts").get_json(row.result_ref)["adapter"]

    def rows_of(self, job_id: str, *keys: str) -> dict[str, list[dict[str, Any]]]:
        """What steps were given and made, by their keys: pairs of rows, merged."""
        store = open_stores(f"sqlite:///{self.data / 'meteor.sqlite3'}").steps
        artifacts = Artifacts(self.data / "artifacts")
        made = {}
        for step in store.of_job(job_id):
            if step.key in keys and step.result_ref is not None:
                given = artifacts.get_json(step.input_hash)["rows"]
                made[step.key] = [
                    a | b for a, b in zip(given, artifacts.get_json(step.result_ref)["rows"], strict=True)
                ]
        return made

    def example_of(self, step_id: str) -> str:
        """The id of a question that went into a step."""
        row = open_stores(f"sqlite:///{self.data / 'meteor.sqlite3'}").steps.get(step_id)
        assert row is not None
        return Artifacts(self.data / "artifacts").get_json(row.input_hash)["rows"][0]["id"]

    def training_processes(self) -> list[int]:
        pids = []
        for child in list(self.runner.children.values()):
            for process in family(child.pid) if child.pid else []:
                try:
                    if "services.trainer.train" in process.cmdline():
                        pids.append(process.pid)
                except psutil.NoSuchProcess:
                    continue
        return pids


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    data = tmp_path_factory.mktemp("system")
    student = make_tiny_llama(data / "tiny")
    nobody = f"http://ann:{PLANTED['password']}@127.0.0.1:{free_port()}/v1?key={PLANTED['query key']}"
    entry = {"base_url": nobody, "model": "m", "api_key_env": "TEAM_ONE", "headers_env": "TEAM_TWO"}
    (data / "providers.json").write_text(json.dumps({"providers": {"planted": entry}}))
    with start_teacher() as teacher:
        environment = {
            "METEOR_STUDENT_MODEL": "tiny",
            "METEOR_STUDENT_PATH": str(student),
            "METEOR_TEACHER_BASE_URL": teacher.base_url,
            "METEOR_TEACHER_MODEL": "fake",
            "METEOR_TEACHER_API_KEY": f"{PLANTED['teacher key']}\n",  # as a copied key comes
            "METEOR_TEACHER_HEADERS": json.dumps({"x-team": PLANTED["header"]}),
            "METEOR_PROVIDERS_FILE": str(data / "providers.json"),
            "TEAM_ONE": PLANTED["file key"],
            "TEAM_TWO": json.dumps({"x-team": PLANTED["header"]}),
            "HF_TOKEN": PLANTED["hub token"],
            "METEOR_API_WEBHOOK_ALLOW": "127.0.0.1/32",
            "METEOR_API_PORT": str(free_port()),
            "METEOR_ENGINE_MAX_MODEL_LEN": "512",
            "METEOR_ENGINE_THREADS": "1",  # tests/conftest.py says why
            "METEOR_TRAINER_THREADS": "1",
            "METEOR_LEASE": "PT4S",
            "METEOR_RENEW": "PT1S",
            "METEOR_JUDGE_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",  # nobody listens there
            "METEOR_JUDGE_MODEL": "nobody",
            "METEOR_STRONG_DEADLINE": "PT3S",
            "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT2S",
            "METEOR_STRONG_BREAKER_PAUSE": "PT0.2S",
            "METEOR_WEAK_PATIENCE": "PT3S",
            "METEOR_MAX_ATTEMPTS": "2",
            "METEOR_SANDBOX": "true",
            "METEOR_TRAINER_MEMORY_GB": "0.2",
            "METEOR_TRAINER_PROBE": "false",  # test_zoo tries students; here it would take a minute of processor time
        }
        with Runner(data / "run", environment) as runner:
            runner.start(wait_s=None)
            with httpx.Client(base_url=runner.urls["api"], timeout=30) as client:
                running = System(runner, teacher, client, data / "run")
                running.before_the_engine = job_without_an_engine(running)
                runner.wait_ready(600)
                running.until(lambda: client.get("/readyz").status_code == 200, 60, lambda: client.get("/readyz").text)
                yield running


def job_without_an_engine(system: System) -> dict[str, Any]:
    """A job while another program holds the port of the student's engine, so that vLLM cannot start."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", httpx.URL(system.runner.urls["student-engine"]).port or 0))
        others = [child for name, child in system.runner.children.items() if name != "student-engine"]
        system.until(lambda: all(child.state == "ready" for child in others), 60)
        job = system.post(system.upload("early", 30), "early", phases=["distill"], distill={"questions": 4})
        return system.wait(job["id"])


@pytest.fixture
def healthy(system: System) -> Iterator[System]:
    """The system with a teacher that makes no faults, before and after."""
    system.mend()
    yield system
    system.mend()
