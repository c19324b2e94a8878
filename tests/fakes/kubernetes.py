"""A Kubernetes API server: one that holds a Secret (the discovery that Helm's `lookup` asks for, and the Secret itself), and one whose
pods are listed and watched."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from tests.fakes.on_a_thread import on_a_thread

SECRETS = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}


@contextmanager
def running_cluster(namespace: str, name: str, values: Mapping[str, str]) -> Generator[str]:
    """Its URL. values: of the Secret, in plain text."""
    app = FastAPI()

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}

    @app.get("/api")
    def versions() -> dict[str, object]:
        return {"kind": "APIVersions", "versions": ["v1"]}

    @app.get("/apis")
    def groups() -> dict[str, object]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}

    @app.get("/api/v1")
    def resources() -> dict[str, object]:
        return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [SECRETS]}

    @app.get("/api/v1/namespaces/{space}/secrets/{secret}")
    def get(space: str, secret: str) -> JSONResponse:
        if (space, secret) != (namespace, name):
            return JSONResponse({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}, 404)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        meta = {"name": name, "namespace": namespace}
        return JSONResponse({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})

    with on_a_thread(app) as url:
        yield url


@dataclass
class Pods:
    """The pods of a namespace, ready as soon as they are there. url: of the API server."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)

    def start(self, name: str, address: str, labels: Mapping[str, str]) -> None:
        self._tell("ADDED", name, address, labels)

    def end(self, name: str) -> None:
        (last,) = [event["object"] for event in self.events if event["object"]["metadata"]["name"] == name]
        self._tell("DELETED", name, last["status"]["podIP"], last["metadata"]["labels"])

    def _tell(self, kind: str, name: str, address: str, labels: Mapping[str, str]) -> None:
        version = str(len(self.events) + 1)
        meta = {"name": name, "namespace": "n", "uid": name, "resourceVersion": version, "labels": dict(labels)}
        status = {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "c"}]}}
        self.events.append({"type": kind, "object": pod | {"status": status}})

    async def watch(self, seen: int) -> AsyncIterator[str]:
        """seen: the resource version from which the watcher knows everything."""
        while True:
            for event in self.events[seen:]:
                yield json.dumps(event) + "\n"
            seen = len(self.events)
            await asyncio.sleep(0.05)


@contextmanager
def running_pods(namespace: str) -> Generator[Pods]:
    pods, app = Pods(), FastAPI()

    @app.get(f"/api/v1/namespaces/{namespace}/pods", response_model=None)
    async def answer(watch: bool = False, resourceVersion: int = 0) -> Any:
        if watch:
            return StreamingResponse(pods.watch(resourceVersion), media_type="application/json")
        gone = {event["object"]["metadata"]["name"] for event in pods.events if event["type"] == "DELETED"}
        there = [event["object"] for event in pods.events if event["object"]["metadata"]["name"] not in gone]
        meta = {"resourceVersion": str(len(pods.events))}
        return {"apiVersion": "v1", "kind": "PodList", "metadata": meta, "items": there}

    with on_a_thread(app) as pods.url:
        yield pods
