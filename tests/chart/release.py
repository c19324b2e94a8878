"""The chart rendered by Helm, as objects of Kubernetes. Needs the environment that `make test-chart` makes."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.variables import CHART

Object = dict[str, Any]
VALUES = ("minimal", "gpu", "openshift")
NAME, NAMESPACE = "meteor", "production"
TOOL = Path(__file__).with_name("tool.py")
MISSING = (
    "Helm and the schemas are not installed; `make test-chart` installs them in an environment of their own (0.7 GB)"
)


def tools() -> Path | None:
    """The environment with what checks the chart; None when nobody installed it."""
    folder = Path(os.environ.get("METEOR_CHART_TOOLS", ""))
    return folder if (folder / "complete").is_file() else None


def program(name: str) -> Path:
    folder = tools()
    assert folder is not None, MISSING
    return folder / "bin" / name


def ask(job: str, **question: Any) -> dict[str, Any]:
    done = subprocess.run(
        [program("python"), TOOL, job], input=json.dumps(question), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


class Refused(Exception):
    """What Helm says of values that it does not take."""


def given(values: str) -> Object:
    return yaml.safe_load((CHART / f"values-{values}.yaml").read_text())


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Object:
    """As Helm lays one file of values over another."""
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def at(path: str, value: Any) -> Object:
    """at("api.replicas", 3) -> {"api": {"replicas": 3}}"""
    first, _, rest = path.partition(".")
    return {first: at(rest, value) if rest else value}


def release(
    values: Mapping[str, Any], chart: Path = CHART, upgrade: bool = False, cluster: str | None = None
) -> "Release":
    """cluster: the URL of its API server. Raises Refused."""
    how = {"name": NAME, "namespace": NAMESPACE, "upgrade": upgrade, "cluster": cluster}
    answer = ask("render", chart=str(chart), values=dict(values), **how)
    if "refused" in answer:
        raise Refused(answer["refused"])
    manifests = {name: text for name, text in answer["manifests"].items() if not name.endswith(".txt")}
    return Release([one for text in manifests.values() for one in yaml.safe_load_all(text) if one])


@dataclass
class Release:
    objects: list[Object]

    def of(self, kind: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] == kind]

    @cached_property
    def deployments(self) -> dict[str, Object]:
        """By component."""
        return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in self.of("Deployment")}

    def pods(self) -> Iterator[tuple[str, Object]]:
        """(name, pod) of everything that becomes a pod; pod has metadata and spec."""
        for one in self.objects:
            if one["kind"] == "Pod":
                yield one["metadata"]["name"], one
            elif "template" in one.get("spec", {}):
                yield one["metadata"]["name"], one["spec"]["template"]

    def container(self, component: str) -> Object:
        (container,) = self.deployments[component]["spec"]["template"]["spec"]["containers"]
        return container

    def environment(self, component: str) -> dict[str, str]:
        """Variable -> its value, or `secret NAME KEY`."""
        said = {}
        for one in self.container(component)["env"]:
            assert one["name"] not in said, f"{component} has {one['name']} twice"
            source = one.get("valueFrom", {}).get("secretKeyRef")
            said[one["name"]] = f"secret {source['name']} {source['key']}" if source else one["value"]
        return said


def containers(pod: Object) -> list[Object]:
    return pod["spec"]["containers"] + pod["spec"].get("initContainers", [])


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes an object with these labels."""
    wanted = selector.get("matchLabels", {})
    among = selector.get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in among)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(one["key"]) in one["values"] for one in among
    )
