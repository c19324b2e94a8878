"""One of everything that a project can have, so that each id which the API knows has something to name."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, update

from shared.artifacts.archives import archive_of, manifest_of, readme_of
from shared.artifacts.store import Artifacts
from shared.contracts.eval_results import ItemSample, StoredItem
from shared.contracts.exports import Download, ExportFormat, ExportIndex
from shared.contracts.jobs import JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Method, ModelRef, StepKind
from shared.db.engine import writing
from shared.jobs.tables import deliveries, jobs
from tests.contract.conftest import BASE, RunningApi, rows

NAMES = ("distillation", "fine_tuning")  # of the same jobs
WEBHOOKS = ("webhooks", "webhook_endpoints")  # of the same ones
# In lists: of what the `after` of a list names one.
AFTER = {
    "/v1/files": "file_id",
    "/v1/files/{file_id}/versions": "job_id",  # the path names a file already
    "/v1/files/{file_id}/diff": "example_id",
    "/v1/files/{file_id}/rows": "example_id",
    "/v1/imports": "import_id",
    "/v1/labels": "label_id",
    "/v1/keys": "key_id",
    "/v1/projects": "project_id",
    "/v1/audit": "entry_id",
    "/v1/experiments": "experiment_id",
    "/v1/recipes": "recipe_id",
    "/v1/recipes/{recipe_id}/events": "recipe_event_id",
    "/v1/models/{alias}/canary/events": "canary_event_id",
    "/v1/exports": "export_id",
    "/v1/evals": "eval_id",
    "/v1/evals/{eval_id}/runs": "other_run_id",
    "/v1/evals/{eval_id}/runs/{run_id}/output_items": "output_item_id",
    "/v1/chat/completions": "completion_id",
    "/v1/chat/completions/{completion_id}/messages": "message_id",
    "/v1/feedback": "feedback_id",
    "/v1/webhooks": "webhook_id",
    "/v1/webhook_endpoints": "webhook_id",
    "/v1/webhooks/{webhook_id}/deliveries": "delivery_id",
} | {
    f"/v1/{names}/jobs{path}": after
    for names in NAMES
    for path, after in (
        ("", "job_id"),
        ("/{job_id}/events", "event_id"),
        ("/{job_id}/metrics", "step_id"),
        ("/{job_id}/checkpoints", "checkpoint_id"),
        ("/{job_id}/examples", "example_id"),
        ("/{job_id}/outcomes", "example_id"),
    )
}
LABEL = {"question": "What is 1 plus 1?", "first": "2", "second": "3", "preferred": "first"}
FIGURES = {"greedy_agreement": 1.0, "logit_difference_max": 1e-5, "logit_difference_mean": 1e-6}
PARITY = {"prompts": 8, "merged": FIGURES, "served": {"greedy_agreement": 0.75}}


EVAL = {
    "name": "secret",
    "data_source_config": {"type": "custom", "item_schema": {}},
    "testing_criteria": [{"type": "string_check", "name": "right", "input": "{{item.a}}", "reference": "{{item.b}}"}],
}
GIVEN = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": "1", "b": "1"}}]}}


def job_on(file_id: str) -> dict[str, Any]:
    return {"model": BASE, "training_file": file_id, "distillation": {"domain": "sums"}}


def recipe_on(file_id: str) -> dict[str, Any]:
    """It waits for more rows than there are."""
    job = {"model": BASE, "distillation": {"domain": "sums"}}
    source = {"type": "file", "file": file_id}
    return {"name": "secret", "job": job, "source": source, "trigger": {"rows": 10_000}}


def one_of_everything(api: RunningApi, http: httpx.Client, project: str) -> dict[str, str]:
    """Makes it by the API as `http`'s caller, whose project it is, and what only workers make in the stores. Returns the ids by
    the names that paths have for them, and those that only an `after` can name: event, checkpoint, step, audit entry."""

    def post(path: str, **body: Any) -> str:
        answer = http.post(path, **body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json().get("id", "")

    def first(path: str) -> str:
        return http.get(path).json()["data"][0]["id"]

    form = {"files": {"file": ("r.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
    file = post("/v1/files", **form)
    job = job_on(file) | {"suffix": "secret", "metadata": {"of": "b"}}
    ids = {"file_id": file, "job_id": post("/v1/distillation/jobs", json=job), "example_id": "row-1"}
    ids["import_id"] = post("/v1/imports", json={"source": {"type": "chat"}, "file": file})
    ids["event_id"] = first(f"/v1/distillation/jobs/{ids['job_id']}/events")
    variants = [{"name": "one"}, {"name": "two"}]
    ids["experiment_id"] = post("/v1/experiments", json={"job": job, "variants": variants})
    post("/v1/labels", json={"labels": [LABEL]})
    ids |= {"label_id": first("/v1/labels"), "entry_id": first("/v1/audit")}
    ids["recipe_id"] = post("/v1/recipes", json=recipe_on(file))
    ids["recipe_event_id"] = first(f"/v1/recipes/{ids['recipe_id']}/events")
    for digit in "ab":
        ref = ModelRef(base=BASE, base_hash="b" * 64).trained(Method.LORA, digit * 64)
        model = api.stores.catalog.publish(project, "secret", ref, ids["job_id"], "promoted")
        api.stores.catalog.serve(project, model)
        ids |= {"alias": model.alias, "model": f"{model.alias}@{model.version}"}
    canary = f"/v1/models/{ids['alias']}/canary"
    post(canary, json={"version": 1, "percent": 10})
    ids["canary_event_id"] = first(f"{canary}/events")
    http.delete(canary)
    ids["checkpoint_id"] = first(f"/v1/fine_tuning/jobs/{ids['job_id']}/checkpoints")
    job_row = api.stores.jobs.get(ids["job_id"])
    assert job_row is not None
    ids["step_id"] = api.stores.steps.create(job_row, StepKey.parse("distill/answers/0"), StepKind.TEACH, "c" * 64).id
    ids["export_id"] = post(f"/v1/models/{ids['model']}/export", json={"formats": ["adapter"]})
    ids["eval_id"] = post("/v1/evals", json=EVAL)
    ids["run_id"], ids["other_run_id"] = (
        post(f"/v1/evals/{ids['eval_id']}/runs", json={"data_source": GIVEN}) for _ in range(2)
    )
    for run in ("other_run_id", "run_id"):  # so that they can be deleted
        post(f"/v1/evals/{ids['eval_id']}/runs/{ids[run]}/cancel")
    end_eval_run(api, ids["run_id"])
    ids["output_item_id"] = first(f"/v1/evals/{ids['eval_id']}/runs/{ids['run_id']}/output_items")
    ids |= {"name": "manifest.json", "response_id": "resp_none"}
    ids |= stored_chat(api, project)
    judged = stored_chat(api, project, "judged")["completion_id"]  # another one, since feedback goes with its chat
    ids["feedback_id"] = post("/v1/feedback", json={"completion_id": judged, "rating": "up"})
    post(f"/v1/models/{ids['alias']}/capture", json={"percent": 0})
    ids["webhook_id"] = post("/v1/webhooks", json={"name": "secret", "url": "https://hooks.invalid/hook"})
    ids["delivery_id"] = failed_delivery(api, project, ids["webhook_id"], ids["job_id"])
    return ids


def stored_chat(api: RunningApi, project: str, name: str = "") -> dict[str, str]:
    """A chat as the API stores it, and its message."""
    made = f"chatcmpl-{hashlib.sha256((project + name).encode()).hexdigest()[:32]}"
    asked = {"messages": [{"role": "user", "content": "hello"}]}
    api.stores.chats.add(
        [
            {
                "id": made, "project_id": project, "alias": "secret", "version": 1, "model": "secret", "user": "ann",
                "safety_identifier": None, "request": asked, "answer": {"choices": []}, "metadata": {}, "bytes": 1,
                "masked": None, "request_id": "req", "created_at": 1.0,
            }
        ]
    )  # fmt: skip
    return {"completion_id": made, "message_id": f"{made}-0"}


def end_eval_run(api: RunningApi, run_id: str) -> None:
    """A row of a run's result, as the orchestrator leaves it."""
    row = StoredItem(item={"a": "1", "b": "1"}, sample=ItemSample(), results=[], status="pass")
    reference = Artifacts(api.platform.artifacts).put_json({"items": [row.model_dump(mode="json")]})
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(update(jobs).where(jobs.c.id == run_id).values(report_ref=reference))


def failed_delivery(api: RunningApi, project: str, webhook_id: str, job_id: str) -> str:
    """The id of one that is over: nothing is sent."""
    made = f"whd-{hashlib.sha256(webhook_id.encode()).hexdigest()[:16]}"
    with writing(api.stores.webhooks.engine) as connection:
        connection.execute(
            insert(deliveries).values(
                id=made, project_id=project, webhook_id=webhook_id, job_id=job_id, type="fine_tuning.job.failed",
                payload="{}", state="failed", attempts=9, next_at=0.0, expires_at=0.0, log=[], created_at=0.0,
            )
        )  # fmt: skip
    return made


def adapter_version(api: RunningApi, project: str, job_id: str, alias: str, folder: Path) -> str:
    """The name of a promoted version of a job, whose adapter is there as an artifact. folder: one that can be written to."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 200)
    digest = Artifacts(api.platform.artifacts).put_folder(folder)
    ref = ModelRef(base=BASE, base_hash="b" * 64).trained(Method.LORA, digest)
    made = api.stores.catalog.publish(project, alias, ref, job_id, "promoted")
    return f"{made.alias}@{made.version}"


def end_export(api: RunningApi, export_id: str) -> None:
    """As the orchestrator ends an export of an adapter. Whatever was queued before is claimed, too."""
    stores, artifacts = api.stores, Artifacts(api.platform.artifacts)
    while (row := stores.jobs.claim("o", 60)) is not None and row.id != export_id:
        pass
    assert row is not None
    model = stores.catalog.resolve(row.project_id, row.request["model"])
    form = ExportFormat.ADAPTER
    index = ExportIndex(
        top="taken-away-1", folders={form: model.adapter}, readme="# card\n", manifest={"parity": PARITY}
    )
    archive = archive_of(index, form, artifacts)
    index.downloads = [
        Download(name=name, format=None, bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
        for name, text in (("README.md", readme_of(index)), ("manifest.json", manifest_of(index)))
    ]
    index.downloads.append(Download(name="adapter.tar", format=form, bytes=archive.size, sha256=archive.sha256()))
    result = {"downloads": [one.model_dump(mode="json") for one in index.downloads], "parity": PARITY}
    reference = artifacts.put_json(index.model_dump(mode="json"))
    assert stores.jobs.end(row, JobStatus.SUCCEEDED, report_ref=reference, result=result)
