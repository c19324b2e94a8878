"""Compose, the images' recipes and the chart, seen by others' tools: docker compose, hadolint, checkov, syft."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import sbom
from tests.chart.release import MISSING, VALUES, given, program, release, tools
from tests.unit.test_deploy import REQUIRED, active
from tests.variables import ROOT

pytestmark = pytest.mark.skipif(tools() is None, reason=MISSING)
FILLED = dict.fromkeys(REQUIRED, "made-for-this-test") | {
    "METEOR_TEACHER_BASE_URL": "http://host.docker.internal:9000/v1",
    "METEOR_TEACHER_MODEL": "large",
}
SKIPPED = ROOT / "deploy" / "helm" / "checkov.yaml"


def composed(profile: str, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder = tools()
    assert folder is not None
    (binary,) = folder.glob("lib/python*/site-packages/compose/docker-compose")
    command = [binary, "--profile", profile, "config", "--format", "json"]
    return subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"], **values}, capture_output=True, text=True)


@pytest.mark.parametrize("profile", ["cpu", "gpu", "local-teacher"])
def test_docker_compose_takes_the_file(profile: str):
    done = composed(profile, FILLED)
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    assert set(services) == set(active(profile))
    if profile == "gpu":
        for name in ("engine-gpu", "trainer-gpu"):
            (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
            assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])


@pytest.mark.parametrize("internal", [True, False])
def test_docker_compose_opens_the_inner_networks_by_one_variable(internal: bool):
    """Without it for the default; the network of the monitoring stays closed."""
    networks = json.loads(composed("cpu", FILLED | ({} if internal else {"METEOR_NETWORKS_INTERNAL": "false"})).stdout)[
        "networks"
    ]
    assert {name: networks[name].get("internal", False) for name in ("state", "engines")} == dict.fromkeys(
        ("state", "engines"), internal
    )


@pytest.mark.parametrize("missing", sorted(FILLED))
def test_docker_compose_says_which_variable_is_missing(missing: str):
    done = composed("cpu", {name: value for name, value in FILLED.items() if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_hadolint_finds_nothing(tmp_path: Path):
    recipes = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
    done = subprocess.run([program("hadolint"), *recipes], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    worse = tmp_path / "worse.Dockerfile"
    worse.write_text(recipes[0].read_text().replace("USER 10001:10001", "USER root"))
    assert subprocess.run([program("hadolint"), worse], cwd=ROOT, capture_output=True).returncode != 0


def test_checkov_finds_what_is_known_and_nothing_else(tmp_path: Path):
    for values in VALUES:
        (tmp_path / f"{values}.yaml").write_text(yaml.safe_dump_all(release(given(values)).objects))
    command = [program("checkov"), "-d", tmp_path, "--framework", "kubernetes", "--quiet", "--compact", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000
    assert report["summary"]["parsing_errors"] == 0
    failed = {one["check_id"] for one in report["results"]["failed_checks"]}
    assert failed == set(yaml.safe_load(SKIPPED.read_text())["skip-check"])


def test_each_image_has_a_bill_of_materials(tmp_path: Path):
    written = sbom.write(str(program("syft")), tmp_path)
    assert {path.name.removesuffix(".cdx.json") for path in written} == set(sbom.locks())
    for image, files in sbom.locks().items():
        document = json.loads((tmp_path / f"{image}.cdx.json").read_text())
        assert document["bomFormat"] == "CycloneDX"
        listed = {f"{one['name']}=={one.get('version')}".lower() for one in document["components"]}
        pinned = {
            pin.lower() for file in files for pin in re.findall(r"(?m)^([A-Za-z0-9._-]+==[^\s;]+)", file.read_text())
        }
        assert pinned, image
        assert pinned <= listed, f"{image} lacks {sorted(pinned - listed)[:5]}"
