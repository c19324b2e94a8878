"""Something to find under each kind of id: the attacked API's project has one of everything, and more of some."""

from pathlib import Path

import httpx

from shared.artifacts.store import Artifacts
from shared.db.engine import writing
from shared.jobs.tables import DEFAULT_PROJECT, jobs
from tests.contract.conftest import BASE, KEY, RunningApi
from tests.contract.everything import adapter_version, end_export, job_on, one_of_everything
from tests.fakes.reports import WHOLE


def known_objects(api: RunningApi, folder: Path) -> dict[str, list[str]]:
    """Name of an id -> those that exist. `ended`: jobs whose event streams end. folder: an empty place for files."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as http:

        def post(path: str, **body) -> str:
            answer = http.post(path, **body)
            assert answer.is_success, answer.text
            return answer.json().get("id", "")

        ids = one_of_everything(api, http, DEFAULT_PROJECT)
        job = job_on(ids["file_id"])
        ended = [post("/v1/distillation/jobs", json=job | {"seed": seed}) for seed in range(3)]
        for each in ended:
            post(f"/v1/distillation/jobs/{each}/cancel")
        give_report(api, ended[0])
        version = adapter_version(api, DEFAULT_PROJECT, ended[0], "taken-away", folder / "adapter")
        export = post(f"/v1/models/{version}/export", json={"formats": ["adapter"]})
        end_export(api, export)
        versions = [made["id"] for made in http.get("/v1/models").json()["data"]]
        named = [ids["model"], ids["alias"], version, BASE]
        # not the attacker's own: a limit set by chance would have it refused from then on
        project = post("/v1/projects", json={"name": "beside"})
        key = post("/v1/keys", json={"name": "made-to-be-found", "scopes": ["jobs"]})
        return {name: [value] for name, value in ids.items()} | {
            "job_id": [ids["job_id"], *ended],
            "ended": ended,
            "export_id": [ids["export_id"], export, export],
            "name": ["README.md", "manifest.json", "adapter.tar"],
            "model": [*named, *versions],
            "alias": [ids["alias"], "taken-away"],
            "project_id": [project],
            "key_id": [key],
        }


def give_report(api: RunningApi, job_id: str) -> None:
    reference = Artifacts(api.platform.artifacts).put_json(WHOLE)
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(report_ref=reference))
