"""Killed processes, a faulty teacher, cancelled jobs: nothing is lost, and the next job succeeds."""

import contextlib
import shutil
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import FINAL, System

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2000)]
DISTILL_ONLY = {"phases": ["distill"], "evaluation": {"baselines": [], "graders": ["chrf"]}}


def test_a_killed_worker_and_a_killed_orchestrator_lose_nothing(healthy: System):
    system = healthy
    system.teacher.latency(1.0)
    job = system.post(system.upload("killed"), "killed", **DISTILL_ONLY)
    system.until(
        lambda: any(
            s["key"].startswith("distill/answers") and s["state"] == "running" for s in system.steps(job["id"])
        ),
        60,
    )
    system.kill("strong-worker")
    system.kill("orchestrator")
    ended = system.wait(job["id"])
    assert ended["status"] == "succeeded", ended
    steps = system.steps(job["id"])
    assert max(Counter(step["key"] for step in steps).values()) == 1
    assert any(step["attempt"] > 1 for step in steps), "the kill hit no running step"
    assert system.report(job["id"])["phases"]["distill"]["kept"] == 24
    prompts = Counter(str(entry["messages"]) for entry in system.teacher.log() if "killed:" in str(entry["messages"]))
    assert len(prompts) == 24
    assert max(prompts.values()) == 1, "an answer that was paid for was asked for again"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("401", "teacher_auth_failed"),
        ("500", "teacher_error"),
        ("html", "teacher_bad_answer"),
        ("empty_choice", "teacher_bad_answer"),
        ("invalid_json", "teacher_bad_answer"),
        ("hang", "teacher_timeout"),
        ("refusal", "teacher_unfit"),
    ],
)
def test_a_faulty_teacher_fails_the_job_with_its_cause(healthy: System, fault: str, code: str):
    system, file = healthy, healthy.upload(f"faulty-{fault}", 30)
    settings = DISTILL_ONLY | {"guidance": "none", "distill": {"questions": 4}}
    system.check(file, "faulty", **settings)  # what it learns of the teacher is taken over when the job is posted
    system.teacher.fault(fault)
    job = system.post(file, "faulty", **settings)
    ended = system.wait(job["id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == code, ended["error"]
    assert "phase pilot" in ended["distillation"]["status_reason"]


def test_an_engine_that_does_not_start_fails_the_job_with_its_cause(system: System):
    ended = system.before_the_engine
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "engine_unavailable", ended["error"]
    assert system.runner.urls["student-engine"] in ended["error"]["message"]
    assert "cannot be used" in (system.data / "logs" / "student-engine.log").read_text()


def test_after_all_that_a_job_succeeds_and_its_pilot_says_what_it_saw(healthy: System):
    changes = {"guidance": "auto", "distill": {"questions": 8, "epochs": 1, "guideline_tokens": 8}}
    job = healthy.post(healthy.upload("after", 40), "after", **DISTILL_ONLY | changes)
    assert healthy.wait(job["id"])["status"] == "succeeded"
    pilot = healthy.report(job["id"])["phases"]["pilot"]
    assert pilot["usable"] == {"none": 8, "weak": 8}
    assert (pilot["decision"], pilot["guidance"]) == ("undecided", "none")  # the teacher says the same either way
    assert pilot["student_nll"]["n"] == 8
    assert pilot["student_nll"]["change"] == [0.0, 0.0, 0.0]
    assert pilot["student_nll"]["guided"] > 0


def test_a_teacher_that_is_down_fails_the_job_with_its_cause(healthy: System):
    job = healthy.post(
        healthy.upload("down", 30),
        "faulty",
        **DISTILL_ONLY | {"guidance": "none", "distill": {"questions": 4}, "teacher": {"provider": "judge"}},
    )
    ended = healthy.wait(job["id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "teacher_unreachable"
    assert "METEOR_JUDGE_BASE_URL" in ended["error"]["message"]


def half_written(system: System) -> set[Path]:
    return {path for folder in ("artifacts", "serving") for path in (system.data / folder).rglob(".tmp-*")}


def test_a_full_disk_fails_the_job_and_leaves_nothing_half_written(healthy: System):
    system = healthy
    body = DISTILL_ONLY | {"distill": {"questions": 8, "epochs": 1}, "adapter": {"rank": 16}}
    file_id = system.upload("full", 40)
    left_before = half_written(system)  # by processes that other tests have killed
    job = system.post(file_id, "full", **body)

    def limited_until_it_ends() -> bool:
        """No file of a training process may grow beyond 60 kB, as on a disk that is full; the adapter has 100."""
        for pid in system.training_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (60_000, psutil.RLIM_INFINITY))
        return system.job(job["id"])["status"] in FINAL

    system.until(limited_until_it_ends, 120, lambda: system.describe(job["id"]))
    ended = system.job(job["id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "disk_full", ended["error"]
    system.until(lambda: not half_written(system) - left_before, 5)  # another step may be writing its result just now
    assert system.wait(system.post(file_id, "full", **body)["id"])["status"] == "succeeded"


def test_a_training_without_memory_fails_the_job_with_its_cause(healthy: System):
    """The system's trainings may take 0.2 GB beside their libraries."""
    system = healthy
    file_id = system.upload("memory")
    body = {
        "phases": ["evolve"],
        "answer_tokens": 128,
        "evaluation": {"baselines": [], "graders": ["chrf"], "dev_questions": 2, "test_questions": 2},
    }
    large = {"questions": 40, "beam_width": 64, "search_batch": 40}
    ended = system.wait(system.post(file_id, "memory", **body, evolve=large)["id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "out_of_memory", ended["error"]
    assert "METEOR_TRAINER_MEMORY_GB" in ended["error"]["message"]
    small = {"questions": 8, "beam_width": 2, "search_batch": 4}
    assert system.wait(system.post(file_id, "memory", **body, evolve=small)["id"])["status"] == "succeeded"


def test_an_adapter_that_is_removed_fails_its_job_and_is_trained_anew_by_the_next(healthy: System):
    system = healthy
    body = {
        "phases": ["distill", "evolve"],
        "answer_tokens": 48,
        "distill": {"questions": 8, "epochs": 1},
        "evolve": {"questions": 8, "beam_width": 4, "search_batch": 1},
        "evaluation": {"baselines": [], "graders": ["chrf"], "dev_questions": 2, "test_questions": 2},
    }
    file_id = system.upload("removed")
    job = system.post(file_id, "removed", **body)
    system.until(
        lambda: any(s["kind"] == "train.search" and s["state"] == "running" for s in system.steps(job["id"])),
        120,
        lambda: system.describe(job["id"]),
    )
    trained = next(s for s in system.steps(job["id"]) if s["kind"] == "train.sft")
    removed = system.adapter_of(trained["id"])
    shutil.rmtree(system.data / "artifacts" / removed[:2] / removed)
    shutil.rmtree(system.data / "serving" / removed)
    ended = system.wait(job["id"])
    assert ended["status"] == "failed"
    assert (ended["error"]["code"], removed in ended["error"]["message"]) == ("artifact_missing", True)
    again = system.post(file_id, "removed", **body)
    assert system.wait(again["id"])["status"] == "succeeded"
    assert next(s for s in system.steps(again["id"]) if s["kind"] == "train.sft")["reused_from"] is None


@pytest.mark.parametrize(
    "kind", ["weak.guide", "weak.answer", "strong.teach", "train.sft", "judge.review", "train.search"]
)
def test_cancel_takes_hold_within_five_seconds(healthy: System, kind: str):
    system = healthy
    slow = {
        "weak.guide": {"distill": {"questions": 24, "guideline_tokens": 400}},
        "weak.answer": {"answer_tokens": 400},
        "strong.teach": {"distill": {"questions": 24}},
        "train.sft": {"distill": {"questions": 24, "guideline_tokens": 8, "epochs": 100}},
        "judge.review": {
            "phases": ["distill", "iterate"],
            "iterate": {"questions": 16, "tries": 3},
            "judge": {"max_tokens": 64},
        },
        "train.search": {
            "phases": ["evolve"],
            "answer_tokens": 256,
            "evolve": {"questions": 40, "beam_width": 8, "search_batch": 1},
        },
    }[kind]
    job = system.post(system.upload(f"cancel-{kind}"), "cancelled", **slow)
    system.until(lambda: len(system.steps(job["id"])) > 0, 60)
    system.teacher.latency(1.5 if kind in ("strong.teach", "judge.review") else 0.0)
    system.until(
        lambda: any(s["kind"] == kind and s["state"] == "running" for s in system.steps(job["id"])),
        90,
        lambda: system.describe(job["id"]),
    )
    if kind.startswith("train"):
        system.until(system.training_processes, 30)
    began = time.monotonic()
    assert system.client.post(f"/v1/distillation/jobs/{job['id']}/cancel").status_code == 200
    system.until(lambda: system.job(job["id"])["status"] == "cancelled", 5)
    system.until(lambda: not system.training_processes(), 5 - (time.monotonic() - began))
    system.until(
        lambda: all(entry["outcome"] is not None for entry in system.teacher.log()), 5 - (time.monotonic() - began)
    )
    again = system.client.post(f"/v1/distillation/jobs/{job['id']}/cancel")
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "job_finished"
