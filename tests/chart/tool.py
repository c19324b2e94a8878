"""Runs in the environment of requirements/chart.lock, which has Helm and the schemas and nothing of ours. JSON in, JSON out.

python tests/chart/tool.py render|validate|crds <question >answer
"""

import json
import sys
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def render(question: Json) -> Json:
    """{chart, values, name, namespace, upgrade, cluster} -> {manifests: {template: text}} or {refused: what Helm said}. cluster: the URL
    of an API server that `lookup` asks, or null."""
    import helm_python as helm

    upgrade, namespace = question["upgrade"], question["namespace"]
    how = {"name": question["name"], "namespace": namespace, "is_install": not upgrade, "is_upgrade": upgrade}
    try:
        with helm.Chart.load(question["chart"]) as chart:
            chart.validate_schema(question["values"])
            if question["cluster"]:
                with helm.Config(kube_apiserver=question["cluster"], namespace=namespace) as config:
                    manifests = config.render(chart, question["values"], **how)
            else:
                manifests = chart.render(question["values"], **how)
    except helm.HelmError as error:
        return {"refused": str(error)}
    return {"manifests": manifests}


def lint(question: Json) -> Json:
    import helm_python as helm

    report = helm.lint(question["chart"], question["values"], strict=True)
    return {"findings": [one for one in report["messages"] if one["severity"] > 1] + report["errors"]}


def validate(question: Json) -> Json:
    """{objects, versions} -> {errors}: against the schemas of Kubernetes, where a field that is unknown is an error."""
    import kubernetes_validate

    errors = []
    for version in question["versions"]:
        for one in question["objects"]:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                errors.append(f"{version} {one['kind']} {one['metadata']['name']}: {error}")
    return {"errors": errors}


def crds(question: Json) -> Json:
    """{objects} -> {errors}: against the models made of KEDA's and the Prometheus operator's own definitions."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

    errors = []
    for one in question["objects"]:
        model = {one.__name__: one for one in (ScaledObject, ServiceMonitor, PrometheusRule)}[one["kind"]]
        try:
            kept = model.model_validate(one).model_dump(mode="json", by_alias=True, exclude_unset=True)
        except ValueError as error:
            errors.append(f"{one['kind']} {one['metadata']['name']}: {error}")
            continue
        lost = sorted(paths(one) - paths(kept))
        errors += [f"{one['kind']} {one['metadata']['name']}: no field {path}" for path in lost]
    return {"errors": errors}


def paths(value: Any, at: str = "") -> set[str]:
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in paths(inner, f"{at}.{key}")} | {at}
    if isinstance(value, list):
        return {path for inner in value for path in paths(inner, f"{at}[]")} | {at}
    return {at}


JOBS: dict[str, Callable[[Json], Json]] = {"render": render, "lint": lint, "validate": validate, "crds": crds}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(JOBS[sys.argv[1]](json.load(sys.stdin))))
