"""A key of project A on every route of the API with ids of project B: each answer is the one to an id that was made up.

The routes are read from the application, so a new one is in the test the moment it exists. One that the tables below cannot fill
fails it: say there what its path, query or body may name.
"""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.api.app import create_app
from services.api.settings import ApiSettings
from shared.contracts.keys import Scope
from shared.platform.settings import PlatformSettings
from tests.contract.conftest import BASE, RunningApi, rows
from tests.contract.everything import AFTER, GIVEN, NAMES, WEBHOOKS, job_on, one_of_everything, recipe_on

# Where a path's parameter is not what its name says.
PATHS = {"POST /v1/models/{model}/rollback": "/v1/models/{alias}/rollback"}
# Bodies of the routes whose path names something, so that nothing but the id is at fault.
BODIES: dict[str, Any] = {
    **{f"PATCH /v1/{names}/jobs/{{job_id}}": {"metadata": {"stolen": "yes"}} for names in NAMES},
    **{f"POST /v1/{names}/jobs/{{job_id}}/fork": {"changes": {}} for names in NAMES},
    "POST /v1/models/{alias}/canary": {"version": 1, "percent": 10},
    "POST /v1/models/{alias}/capture": {"percent": 10},
    "POST /v1/chat/completions/{completion_id}": {"metadata": {"stolen": "yes"}},
    "POST /v1/models/{model}/export": {"formats": ["adapter"]},
    "POST /v1/files/{file_id}/preview": {"rows": 1},
    "POST /v1/files/{file_id}/versions": {"remove": ["row-1"]},
    "PATCH /v1/imports/{import_id}": {"budget": {"max_calls": 1}},
    "POST /v1/evals/{eval_id}": {"name": "stolen"},
    "POST /v1/evals/{eval_id}/runs": {"data_source": GIVEN},
    "PATCH /v1/keys/{key_id}": {"budget": {"max_usd": 1}},
    "PATCH /v1/projects/{project_id}": {"limits": {"concurrent_jobs": 1}},
    "PATCH /v1/webhooks/{webhook_id}": {"name": "stolen"},
    "POST /v1/webhook_endpoints/{webhook_id}": {"name": "stolen"},
    **{f"POST /v1/{names}/{{webhook_id}}/{deed}": {} for names in WEBHOOKS for deed in ("rotate_secret", "test")},
}
# Bodies of the routes whose path names nothing: with the ids of another project in every place that takes one.
JOB = job_on("{file_id}")
NAMING: dict[str, list[dict[str, Any]]] = {
    "POST /v1/distillation/jobs": [JOB],
    "POST /v1/distillation/jobs/estimate": [JOB],
    "POST /v1/fine_tuning/jobs": [JOB, {"model": BASE, "training_file": "{file_id}"}],
    "POST /v1/fine_tuning/jobs/estimate": [JOB, {"model": BASE, "training_file": "{file_id}"}],
    "POST /v1/distillation/jobs/check": [JOB],
    "POST /v1/fine_tuning/jobs/check": [JOB, {"model": BASE, "training_file": "{file_id}"}],
    "POST /v1/fine_tuning/alpha/graders/validate": [{"grader": {"type": "sql_result", "database": "{file_id}"}}],
    "POST /v1/fine_tuning/alpha/graders/run": [
        {
            "grader": {"type": "sql_result", "database": "{file_id}"},
            "model_sample": "SELECT 1",
            "item": {"reference": "SELECT 1"},
        }
    ],
    "POST /v1/experiments": [{"job": JOB, "preset": "ablation"}],
    "POST /v1/recipes": [recipe_on("{file_id}")],
    "POST /v1/imports": [{"source": {"type": "chat"}, "file": "{file_id}"}],
    "POST /v1/imports/estimate": [{"source": {"type": "chat"}, "file": "{file_id}"}],
    "POST /v1/keys": [{"name": "stolen", "project": "{project_id}"}],
    "POST /v1/feedback": [{"completion_id": "{completion_id}", "rating": "down"}],
    "POST /v1/forget": [
        {"completions": ["{completion_id}"]},
        {"file": "{file_id}", "rows": ["row-1"]},
        {"file": "{file_id}", "rows": ["row-1"], "dry_run": True},
    ],
} | {
    f"POST /v1/{route}": [
        {"model": model, "stream": stream} | asks
        for model, stream in itertools.product(("{model}", "{alias}"), (False, True))
    ]
    for route, asks in (
        ("chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("completions", {"prompt": "hello"}),
        ("responses", {"input": "hello"}),
    )
}
# The operator's alone, and of no project: tests/contract/test_providers.py, test_usage.py.
OPERATORS = ("/v1/providers", "/v1/system")
# They say the same to everybody: the names of base models are nobody's, and responses are not stored.
NOBODYS = {
    "GET /v1/models/{model}/capabilities",
    "GET /v1/responses/{response_id}",
    "GET /v1/responses/{response_id}/input_items",
}
# They make something of one's own, and nothing in them can name what another project has.
OWN = {f"POST /v1/{route}" for route in ("files", "labels", "projects", "evals", *WEBHOOKS)}


@dataclass
class Route:
    method: str
    path: str
    query: set[str]
    takes_body: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def params(self) -> list[str]:
        return re.findall(r"{(\w+)", self.path)


def routes_of(app: FastAPI) -> list[Route]:
    routes = []
    for route in app.routes:
        path = getattr(route, "path", "")
        if not path.startswith("/v1/") or path.startswith(OPERATORS):
            continue
        assert isinstance(route, APIRoute)
        for method in sorted(route.methods - {"HEAD", "OPTIONS"}):
            query = {field.alias for field in route.dependant.query_params}
            body = route.body_field is not None
            routes.append(Route(method, re.sub(r":path}", "}", path), query, body))
    return sorted(routes, key=lambda route: (route.method == "DELETE", route.name))


ROUTES = routes_of(create_app(ApiSettings(), PlatformSettings(data=Path("unused"))))


@dataclass
class Tenant:
    project: str
    http: httpx.Client
    ids: dict[str, str] = field(default_factory=dict)


def tenant(api: RunningApi, operator: httpx.Client, name: str) -> Tenant:
    project = operator.post("/v1/projects", json={"name": name}).json()["id"]
    body = {"name": name, "project": project, "scopes": list(Scope)}
    key = operator.post("/v1/keys", json=body).json()
    headers = {"authorization": f"Bearer {key['key']}"}
    client = httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False)
    return Tenant(project, client, {"key_id": key["id"], "project_id": project})


@pytest.fixture(scope="module")
def tenants(api: RunningApi) -> Iterator[tuple[Tenant, Tenant]]:
    with httpx.Client(base_url=api.url, headers={"authorization": "Bearer another-key"}, trust_env=False) as operator:
        a, b = tenant(api, operator, "a"), tenant(api, operator, "b")
        b.ids |= one_of_everything(api, b.http, b.project)
        with closing(a.http), closing(b.http):
            yield a, b


def made_up(ids: dict[str, str]) -> dict[str, str]:
    """Ids of the same form that nobody has."""
    changed = {name: value[:-6] + "0ddba1" for name, value in ids.items()}
    return changed | {"event_id": "ftevent-999999999", "model": "nobody@1", "alias": "nobody", "example_id": "row-1"}


def filled(template: Any, ids: dict[str, str], name: str) -> Any:
    """The ids in the place of their names. A name that is not known fails the test."""
    text = json.dumps(template)
    unknown = [param for param in re.findall(r"{(\w+)}", text) if param not in ids]
    assert not unknown, f"{name}: say in one_of_everything() what {unknown} may be"
    return json.loads(re.sub(r"{(\w+)}", lambda match: ids[match.group(1)], text))


def asked(who: Tenant, route: Route, ids: dict[str, str], body: Any = None, **query: str) -> tuple[int, str]:
    """Status and body, the ids in it by their names."""
    path = filled(PATHS.get(route.name, route.path), ids, route.name)
    more = {} if body is None else {"json": filled(body, ids, route.name)}
    answer = who.http.request(route.method, path, params=query, **more)
    text = answer.text
    for name, value in sorted(ids.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"<{name}>")
    return answer.status_code, text


def snapshot(owner: Tenant) -> dict[str, str]:
    reads = [route for route in ROUTES if route.method == "GET" and route.path != "/v1/audit"]
    return {
        route.name: re.sub(r'"(last_used_at|since|until)":\w+', "", asked(owner, route, owner.ids)[1])
        for route in reads
    }


NAMED = [route for route in ROUTES if route.params]
UNNAMED = [route for route in ROUTES if not route.params]


def body_of(route: Route) -> Any:
    assert route.name in BODIES or not route.takes_body, f"say in BODIES of {__file__} what {route.name} is sent"
    return BODIES.get(route.name)


def test_what_another_project_has_is_as_if_made_up(tenants: tuple[Tenant, Tenant]):
    a, b = tenants
    before = snapshot(b)
    for route in NAMED:
        body = body_of(route)
        theirs = asked(a, route, b.ids, body)
        assert theirs[0] == 404, (route.name, theirs)
        assert theirs == asked(a, route, made_up(b.ids), body), route.name
    assert snapshot(b) == before


def test_lists_and_cursors_show_nothing_of_another_project(tenants: tuple[Tenant, Tenant]):
    a, b = tenants
    secrets = [value for name, value in b.ids.items() if name != "example_id"]
    for route in UNNAMED:
        if route.method != "GET":
            continue
        answer = a.http.get(route.path)
        assert answer.status_code == 200, route.name
        if route.path == "/v1/audit":  # shows which ids A has asked for
            assert {entry["project"] for entry in answer.json()["data"]} <= {a.project}
            continue
        assert not [value for value in secrets if f'"{value}"' in answer.text], route.name
    for route in ROUTES:
        if "after" not in route.query:
            continue
        assert route.path in AFTER, f"say in AFTER of everything.py what the `after` of {route.path} names"
        ids = {
            name: filled("{" + AFTER[route.path] + "}", ids, route.name)
            for name, ids in (("b", b.ids), ("x", made_up(b.ids)))
        }
        answers = [a.http.get(filled(route.path, b.ids, route.name), params={"after": after}) for after in ids.values()]
        assert {answer.status_code for answer in answers} <= {400, 404}, route.name
        assert answers[0].text.replace(ids["b"], "") == answers[1].text.replace(ids["x"], ""), route.name


def test_bodies_that_name_what_another_project_has(tenants: tuple[Tenant, Tenant]):
    a, b = tenants
    for route in UNNAMED:
        if route.method == "GET" or route.name in OWN:
            continue
        assert route.name in NAMING, f"say in NAMING or OWN of {__file__} what the body of {route.name} may name"
        for body in NAMING[route.name]:
            theirs = asked(a, route, b.ids, body)
            away = theirs[0] == 503 and route.path.endswith("/estimate")  # no gateway runs here
            told = theirs[0] == 200 and route.path.endswith("/check")  # a list of what is wrong
            assert theirs[0] in (400, 404) or away or told, (route.name, theirs)
            assert theirs == asked(a, route, made_up(b.ids), body), route.name


def test_streams_of_another_projects_jobs(tenants: tuple[Tenant, Tenant]):
    a, b = tenants
    for accept, last in itertools.product(("text/event-stream",), ("", "1")):
        headers = {"accept": accept} | ({"last-event-id": last} if last else {})
        answer = a.http.get(f"/v1/distillation/jobs/{b.ids['job_id']}/events", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_the_same_content_in_two_projects_is_two_files(tenants: tuple[Tenant, Tenant]):
    a, b = tenants
    upload = {"files": {"file": ("mine.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
    mine = a.http.post("/v1/files", **upload).json()
    assert mine["filename"] == "mine.jsonl"
    assert mine["id"] != b.ids["file_id"]
    assert a.http.delete(f"/v1/files/{mine['id']}").status_code == 200
    assert b.http.get(f"/v1/files/{b.ids['file_id']}/content").content == rows(60)


def test_the_owner_is_told_something_else(tenants: tuple[Tenant, Tenant]):
    """Else the tables above would be wrong, and the 404 theirs. Last: it deletes what it names."""
    a, b = tenants
    gone: list[list[str]] = []
    for route in NAMED:
        if route.name in (*NOBODYS, "DELETE /v1/keys/{key_id}"):  # the key is the one that asks: last of all
            continue
        if route.method == "DELETE":
            if route.params in gone:  # by another name of the same route
                continue
            gone.append(route.params)
        body = body_of(route)
        assert asked(b, route, b.ids, body) != asked(a, route, b.ids, body), route.name
    revoke = next(route for route in NAMED if route.name == "DELETE /v1/keys/{key_id}")
    assert asked(b, revoke, b.ids)[0] == 200
