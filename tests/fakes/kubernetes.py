"""A Kubernetes API server that holds one Secret: the discovery that Helm's `lookup` asks for, and the Secret itself."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from tests.fakes.on_a_thread import on_a_thread

SECRETS = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}


@contextmanager
def running_cluster(namespace: str, name: str, values: Mapping[str, str]) -> Iterator[str]:
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
