"""Experiments: all variants or none, in order, compared question by question."""

from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.artifacts.store import Artifacts
from shared.contracts.experiments import PRESETS, merged
from shared.contracts.jobs import JobStatus
from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.fakes.reports import REPORT


@pytest.fixture
def base(http: httpx.Client) -> dict[str, Any]:
    stored = http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()
    return {"model": BASE, "training_file": stored["id"], "suffix": "sums", "distillation": {"domain": "sums"}}


def report(job: str, base: list[float], final: list[float]) -> dict[str, Any]:
    def line(name: str, scores: list[float]) -> dict[str, Any]:
        mean = sum(scores) / len(scores)
        value = [mean, mean - 0.1, mean + 0.1]
        row = {"name": name, "adapter": None, "n": len(scores), "metrics": {"chrf": value}, "gain_over_base": value}
        return row | {"scores": scores}

    return REPORT | {
        "job": job,
        "primary_metric": "chrf",
        "table": [line("base", base), line("distill", final)],
        "final": {"name": "distill", "adapter": None, "over": {}},
        "decisions": [{"phase": "distill", "decision": "promoted", "gain_on_dev": [0.1, 0.0, 0.2]}],
        "teacher": {"distill": {"teacher_calls": 3, "input_tokens": 10, "output_tokens": 5}},
    }


def test_variants_run_one_after_the_other_and_are_compared(api: RunningApi, http: httpx.Client, base: dict[str, Any]):
    variants = [{"name": "full"}, {"name": "bare", "changes": {"distillation": {"guidance": "none"}, "seed": 5}}]
    answer = http.post("/v1/experiments", json={"job": base, "variants": variants})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/v1/experiments/{made['id']}"
    assert [v["name"] for v in made["variants"]] == ["full", "bare"]
    jobs = [http.get(f"/v1/distillation/jobs/{v['job_id']}").json() for v in made["variants"]]
    assert [(j["suffix"], j["seed"], j["distillation"]["guidance"]) for j in jobs] == [
        ("sums-full", 0, "auto"),
        ("sums-bare", 5, "none"),
    ]
    artifacts, store = Artifacts(api.platform.artifacts), api.stores.jobs
    finals = {"full": [0.4, 0.5, 0.6, 0.5], "bare": [0.5, 0.7, 0.7, 0.6]}
    held: list[str] = []
    while len(held) < 2:
        row = store.claim("test", 60)
        assert row is not None
        if row.id not in {job["id"] for job in jobs}:
            continue  # left by another test
        held.append(row.id)
        other = store.get(jobs[1]["id"])
        assert other is not None
        assert len(held) == 2 or other.status == JobStatus.QUEUED
        while (free := store.claim("test", 60)) is not None:
            assert free.id != jobs[1]["id"], "it was taken while its sibling ran"
        name = row.request["metadata"]["variant"]
        store.end(row, JobStatus.SUCCEEDED, report_ref=artifacts.put_json(report(row.id, [0.1] * 4, finals[name])))
    experiment = http.get(f"/v1/experiments/{made['id']}").json()
    alone = http.get(f"/v1/experiments/{made['id']}/report").json()
    assert (alone["variants"], alone["compared"]) == (len(experiment["variants"]), len(experiment["comparison"]))
    assert (alone["id"], alone["comparison"]) == (made["id"], experiment["comparison"])
    full, bare = experiment["comparison"]
    assert full["gain_over_first"][0] == 0
    assert bare["gain_over_first"][0] == pytest.approx(0.125)
    assert bare["gain_over_first"][1] < bare["gain_over_first"][0] < bare["gain_over_first"][2]
    assert (bare["teacher_calls"], bare["teacher_tokens"], bare["n"]) == (3, 15, 4)
    assert bare["lesson_tokens"] == 0  # no step of it was run here
    assert http.post(f"/v1/experiments/{made['id']}/cancel").status_code == 200


def test_all_variants_or_none(http: httpx.Client, base: dict[str, Any]):
    before = http.get("/v1/distillation/jobs?limit=100").json()["data"]
    wrong = [{"name": "good"}, {"name": "bad", "changes": {"distillation": {"adapter": {"rank": 64}}}}]
    answer = http.post("/v1/experiments", json={"job": base, "variants": wrong})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("rank_too_large", "distillation.adapter.rank")
    assert "'bad'" in error["message"]
    assert http.get("/v1/distillation/jobs?limit=100").json()["data"] == before


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"variants": []}, "either"),
        ({"variants": [{"name": "a"}], "preset": "ablation"}, "either"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "name of its own"),
        ({"variants": [{"name": "a", "changes": {"distillation": {"guidance": "loud"}}}]}, "'a'"),
        ({"preset": "everything"}, "ablation"),
    ],
)
def test_a_bad_experiment_says_what_is_wrong(http: httpx.Client, base: dict[str, Any], body: dict, word: str):
    answer = http.post("/v1/experiments", json={"job": base} | body)
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_jobs_that_can_run(http: httpx.Client, base: dict[str, Any], preset: str):
    base["distillation"] |= {name: {"questions": 8} for name in ("distill", "iterate", "evolve")}
    answer = http.post("/v1/experiments", json={"job": base, "preset": preset})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert [v["name"] for v in made["variants"]] == list(PRESETS[preset](base))
    jobs = {v["name"]: http.get(f"/v1/distillation/jobs/{v['job_id']}").json() for v in made["variants"]}
    if preset == "ablation":  # the two plain ways get all questions that the whole job uses
        plain = {name: jobs[name]["distillation"]["distill"] for name in ("distill-only", "references-only")}
        assert {name: (d["questions"], d["answers"]) for name, d in plain.items()} == {
            "distill-only": (24, "teacher"),
            "references-only": (24, "references"),
        }
    http.post(f"/v1/experiments/{made['id']}/cancel")
    assert {v["status"] for v in http.get(f"/v1/experiments/{made['id']}").json()["variants"]} == {"cancelled"}


def test_the_students_preset_needs_several(http: httpx.Client, base: dict[str, Any]):
    answer = http.post("/v1/experiments", json={"job": base, "preset": "students"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "one_student")


def test_changes_are_merged_and_the_base_is_left_alone():
    base = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert merged(base, {"a": {"c": [2]}, "d": {"e": 3}}) == {"a": {"b": 1, "c": [2]}, "d": {"e": 3}}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 2}


def test_an_unknown_experiment_is_not_found(http: httpx.Client):
    answer = http.get("/v1/experiments/exp-nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "experiment_not_found")
    assert http.get("/v1/experiments/exp-nobody/report").status_code == 404


def test_experiments_are_listed_newest_first(http: httpx.Client, base: dict[str, Any]):
    made = [http.post("/v1/experiments", json={"job": base, "preset": "strategies"}).json() for _ in range(3)]
    first = http.get("/v1/experiments", params={"limit": 2}).json()
    assert first["data"] == [http.get(f"/v1/experiments/{one['id']}").json() for one in (made[2], made[1])]
    assert (first["last_id"], first["has_more"]) == (made[1]["id"], True)
    after = http.get("/v1/experiments", params={"limit": 1, "after": first["last_id"]}).json()
    assert [one["id"] for one in after["data"]] == [made[0]["id"]]
    unknown = http.get("/v1/experiments", params={"after": "exp-0"}).json()
    assert unknown["error"]["code"] == "unknown_cursor"
    for one in made:
        http.post(f"/v1/experiments/{one['id']}/cancel").raise_for_status()


# forks


def test_a_fork_over_http_and_from_the_command_line(
    api: RunningApi, http: httpx.Client, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    origin = http.post("/v1/distillation/jobs", json=base | {"metadata": {"kept": "1"}}).json()
    route = f"/v1/distillation/jobs/{origin['id']}/fork"
    answer = http.post(route, json={"changes": {"distillation": {"iterate": {"rounds": 3}}}})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/v1/distillation/jobs/{made['id']}"
    assert made["distillation"]["forked_from"] == {"job_id": origin["id"], "phase": None, "round": None}
    assert (made["distillation"]["iterate"]["rounds"], made["metadata"]) == (3, {"kept": "1"})
    assert origin["distillation"]["forked_from"] is None
    refused = http.post(route, json={"from": {"phase": "iterate", "round": 1}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_finished")
    assert refused.headers["x-should-retry"] == "false"
    refused = http.post(route, json={"from": {"phase": "distill", "round": 1}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "from")
    assert http.post("/v1/distillation/jobs/ftjob-none/fork", json={}).status_code == 404
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    options = ["--set", "distillation.iterate.rounds=2", "--set", "distillation.domain=more sums", "--set", "seed=4"]
    told = CliRunner().invoke(cli, ["jobs", "fork", origin["id"], *options])
    assert told.exit_code == 0, told.output
    fork = http.get(f"/v1/distillation/jobs/{told.output.strip()}").json()
    assert (fork["distillation"]["iterate"]["rounds"], fork["seed"]) == (2, 4)
    assert fork["distillation"]["domain"] == "more sums"
    told = CliRunner().invoke(cli, ["jobs", "fork", origin["id"], "--from", "iterate/1"])
    assert told.exit_code != 0
    for job in (origin, made, fork):
        http.post(f"/v1/distillation/jobs/{job['id']}/cancel")
