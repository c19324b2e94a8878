"""Every variable has a place in chart, Compose and local runner, and none is set that nobody reads."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests import variables
from tests.chart.release import VALUES, at, given, merged
from tests.variables import CHART, CLASSES, OTHERS_READ, PLACES, READS, ROOT, names_of

# What runs a class of process in docker-compose.yml.
SERVICES = {
    "api": "api", "orchestrator": "orchestrator", "strong-gateway": "gateway", "strong-worker": "strongWorker",
    "weak-worker": "weakWorker", "judge": "judge", "trainer-cpu": "trainer", "trainer-gpu": "trainer",
    "engine-cpu": "engine", "engine-gpu": "engine", "teacher-engine": "engine",
}  # fmt: skip
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads(variables.SCHEMA.read_text())


def test_all_settings_classes_are_known():
    named = set()
    for folder in ("services", "shared"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                bases = {getattr(base, "id", "") for base in getattr(node, "bases", [])}
                if isinstance(node, ast.ClassDef) and bases & {"BaseSettings", "_ProviderSettings"}:
                    named.add(node.name)
    assert named - {"_ProviderSettings"} == {one.__name__ for one in CLASSES}


def test_a_refused_setting_is_not_repeated_in_the_error():
    """Its value may hold a password, which would come into the log."""
    assert [one.__name__ for one in CLASSES if not one.model_config.get("hide_input_in_errors")] == []


def test_each_process_reads_the_classes_that_it_is_said_to_read():
    """READS is held against the sources: a class of a process's own service is named there."""
    homes = {
        "weakWorker": "weak_model",
        "engine": "weak_model",
        "gateway": "strong_model",
        "strongWorker": "strong_model",
    }
    for process, classes in READS.items():
        source = "".join(path.read_text() for path in (ROOT / "services" / homes.get(process, process)).rglob("*.py"))
        for one in set(classes) - set(variables.COMMON):
            assert re.search(rf"\b{one.__name__}\b", source), f"{process} does not read {one.__name__}"


def test_the_page_is_of_these_settings():
    assert variables.PAGE.read_text() == variables.page(), "run python -m tests.variables"


def test_the_schema_allows_these_settings():
    assert variables.SCHEMA.read_text() == variables.schema(), "run python -m tests.variables"


def test_every_variable_has_a_place():
    for row in variables.rows():
        assert row.chart, f"{row.variable} has no place in the chart"
        assert row.chart != "-" or row.variable in variables.RUNNER_ALONE


def test_places_name_variables_and_values_that_exist():
    assert PLACES.keys() <= variables.all_names() | OTHERS_READ
    for place in PLACES.values():
        if not place.startswith(("secret ", variables.FIXED)):
            value = DEFAULTS
            for key in place.strip("`").split("."):
                value = value[key]


def test_the_chart_names_no_variable_that_nobody_reads():
    text = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    named = set(re.findall(r"\b(METEOR_[A-Z0-9_]*[A-Z0-9]|[A-Z]+_URL|HF_[A-Z_]+|OTEL_[A-Z_]+)\b", text)) - {"BASE_URL"}
    assert named - variables.all_names() <= OTHERS_READ
    assert named > {"METEOR_DATA", "DATABASE_URL"}


@pytest.mark.parametrize("service", SERVICES)
def test_compose_gives_a_process_what_it_reads(service: str):
    classes = READS[SERVICES[service]]
    known = {name for one in classes for field in one.model_fields for name in names_of(one, field)}
    known |= {"HF_TOKEN", *OTHERS_READ}
    strangers = set(variables.compose()[service]["environment"]) - known
    assert not strangers, f"{service} does not read {strangers}"


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_process_writes_is_mounted_in_compose(service: str):
    """METEOR_DATA of each lies in a volume or tmpfs that it may write: containers are read-only."""
    told: dict[str, Any] = variables.compose()[service]
    data = Path(told["environment"]["METEOR_DATA"])
    mounts = {Path(one.split(":")[1]): one.endswith(":ro") for one in told["volumes"]}
    mounts |= {Path(one.split(":")[0]): False for one in told["tmpfs"]}
    home = max((path for path in mounts if data.is_relative_to(path)), key=lambda path: len(path.parts))
    assert not mounts[home], f"{service} cannot write {data}"


@pytest.mark.parametrize("values", VALUES)
def test_the_example_values_are_valid(values: str):
    """With the defaults under them, as Helm reads them. tests/integration/test_chart.py asks Helm itself."""
    Draft202012Validator.check_schema(SCHEMA)
    whole = merged(DEFAULTS, given(values))
    assert not [f"{list(e.path)}: {e.message}" for e in Draft202012Validator(SCHEMA).iter_errors(whole)]
    for wrong in (at("api.settings", {"METEOR_API_SHADOWZ": 1}), at("gateway.replicas", -1), at("image.registry", "")):
        assert list(Draft202012Validator(SCHEMA).iter_errors(merged(whole, wrong)))


def test_every_default_is_in_the_schema_and_the_other_way_round():
    """What values.yaml does not show nobody finds; what the schema does not know Helm refuses."""
    # given where they are wanted
    unseen = {"nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName", "global"}

    def compare(schema: dict[str, Any], value: Any, path: str) -> None:
        while "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        if not isinstance(value, dict) or not schema.get("properties"):
            return
        known = (
            set(schema["properties"]) - unseen - {"supplementalGroups", "localhostProfile", "seLinuxOptions", "pull"}
        )
        assert known <= set(value), f"values.yaml lacks {known - set(value)} of {path}"
        for key, inner in value.items():
            compare(schema["properties"][key], inner, f"{path}.{key}")

    compare(SCHEMA, DEFAULTS, "")
