"""docker-compose.yml and what it names: a valid file, complete, closed by default, and without secrets.

No Docker engine is needed. The Compose specification's schema comes with the package check-jsonschema.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from deploy.sbom import stage
from services.local.settings import LocalSettings
from services.local.supervisor import plan
from shared.contracts.steps import Queue
from tests.variables import all_names

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RECIPES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
OWN = {name: service for name, service in SERVICES.items() if "build" in service}  # the others are stock images
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)(?:(:?[-?+])([^}]*))?\}")
REQUIRED = {"METEOR_API_KEYS", "METEOR_INTERNAL_TOKEN", "POSTGRES_PASSWORD", "REDIS_PASSWORD"}
SECRET_NAME = re.compile(r"(PASSWORD|TOKEN|API_KEYS?|SECRET|HEADERS)$")

# What consumes each queue: the module and its role, as they stand on a command line.
CONSUMERS = {
    Queue.WEAK: ("services.weak_model", "worker"),
    Queue.STRONG: ("services.strong_model", "worker"),
    Queue.JUDGE: ("services.judge",),
    Queue.TRAIN: ("services.trainer",),
}


def module_of(command: list[str]) -> tuple[str, ...]:
    """("services.x", role...) of `python -m services.x role...`."""
    assert command[:2] == ["python", "-m"], command
    return tuple(command[2:])


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def filled(text: str, values: dict[str, str]) -> str:
    """Compose's interpolation, as far as this file uses it. Raises KeyError for a required variable without a value."""

    def one(match: re.Match) -> str:
        name, form, rest = match.groups()
        if values.get(name):
            return values[name]
        if form in (":-", "-"):
            return rest
        raise KeyError(name)

    return VARIABLE.sub(one, text)


def active(profile: str) -> dict[str, dict[str, Any]]:
    return {name: s for name, s in SERVICES.items() if profile in s.get("profiles", [profile])}


def test_valid_by_the_compose_specification():
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None, "install requirements/dev.lock"
    assert package.submodule_search_locations is not None
    vendored = Path(package.submodule_search_locations[0]) / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    Draft202012Validator.check_schema(schema)
    errors = [f"{list(error.path)}: {error.message}" for error in Draft202012Validator(schema).iter_errors(COMPOSE)]
    assert not errors
    broken = {"services": {"api": SERVICES["api"] | {"port": ["1:1"]}}}
    assert list(Draft202012Validator(schema).iter_errors(broken)), "the schema lets a misspelled key pass"


def test_names_between_services_resolve():
    """depends_on, networks, volumes and configs name things that exist, in each profile; required ones are active."""
    for profile in ("cpu", "gpu"):
        running = active(profile)
        for name, service in running.items():
            for other, condition in service.get("depends_on", {}).items():
                assert other in SERVICES, f"{name} waits for {other}"
                assert other in running or condition.get("required") is False, f"{name} waits for {other} in {profile}"
            assert set(service["networks"]) <= set(COMPOSE["networks"])
            volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
            assert volumes <= set(COMPOSE["volumes"])
    for config in COMPOSE["configs"].values():
        assert (ROOT / config["file"]).is_file()


def test_addresses_between_services_lead_to_a_neighbour():
    """Every http://host:port of the environment is a service (or alias) that shares a network with the one that asks."""
    for profile in ("cpu", "gpu"):
        running = active(profile)
        for name, service in running.items():
            for value in strings(service.get("environment", {})):
                for host in re.findall(r"(?:http|redis|postgresql)://(?:[^@/]*@)?([a-z][a-z0-9-]*):\d+", value):
                    homes = [
                        set(other["networks"])
                        for label, other in running.items()
                        if host == label or host in aliases_of(other)
                    ]
                    assert len(homes) == 1, f"{name} asks {host}: {len(homes)} services of that name in {profile}"
                    assert homes[0] & set(service["networks"]), f"{name} and {host} share no network"


def aliases_of(service: dict[str, Any]) -> set[str]:
    networks = service["networks"]
    return {alias for n in networks.values() for alias in n["aliases"]} if isinstance(networks, dict) else set()


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("queue", list(Queue))
def test_every_queue_has_one_consumer_in_compose(queue: Queue, profile: str):
    commands = [module_of(s["command"]) for name, s in active(profile).items() if name in OWN]
    assert commands.count(CONSUMERS[queue]) == 1


@pytest.mark.parametrize("queue", list(Queue))
def test_every_queue_has_a_consumer_in_the_local_runner(queue: Queue):
    assert queue in plan.CONSUMERS
    assert plan.MODULES[plan.CONSUMERS[queue]] == list(CONSUMERS[queue])
    assert plan.CONSUMERS[queue] in plan.wanted(None, LocalSettings.of({}))


def test_the_local_runner_starts_what_compose_starts():
    """Broker and database apart, which are no modules of ours."""
    here = {tuple(module) for module in plan.MODULES.values() if module}
    there = {module_of(s["command"]) for name, s in active("cpu").items() if name in OWN and name != "models"}
    assert here == there


def test_consumers_are_what_they_are_taken_for():
    """The table above is held against the code: a service hands the queue's name to serve_queue."""
    for queue, (module, *_) in CONSUMERS.items():
        source = "\n".join(path.read_text() for path in (ROOT / module.replace(".", "/")).glob("*.py"))
        assert re.search(rf"serve_queue\(\s*[^,]+,\s*Queue\.{queue.name}\b", source), f"{module} does not serve {queue}"


def test_modules_exist_and_each_image_carries_them():
    for name, service in OWN.items():
        module = module_of(service["command"])[0]
        folder = module.replace(".", "/")
        assert (ROOT / folder / "__main__.py").is_file(), f"{name}: python -m {module}"
        dockerfile = ROOT / service["build"]["dockerfile"]
        assert dockerfile.is_file()
        text = stage(dockerfile.read_text(), service["build"].get("target"))
        assert f"COPY {folder} {folder}\n" in text, f"{name}: {dockerfile.name} does not copy {folder}"
        assert "USER 10001:10001" in text
        others = set(re.findall(r"COPY (services/\w+) ", text)) - {folder}
        assert not others, f"{name} carries the code of {others}"


def test_what_dockerfiles_copy_exists_and_is_not_ignored():
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for dockerfile in RECIPES:
        for line in re.findall(r"(?m)^COPY (.+)$", dockerfile.read_text()):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), f"{dockerfile.name}: {source}"
                assert any(Path(source).match(a) or source.split("/")[0] == a for a in allowed), f"{source} is ignored"


def test_base_images_are_pinned():
    """By tag, for people, and by digest, for the builder; the same everywhere."""
    own = {image for path in RECIPES for image in re.findall(r"(?m)^FROM (\S+:\S+)", path.read_text())}
    assert len(own) == 1, "one base for all: a layer that is shared is stored and scanned once"
    stock = {service["image"] for name, service in SERVICES.items() if name not in OWN}
    assert all(re.fullmatch(r"[a-z/]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", image) for image in own | stock)


def test_a_uid_without_a_name_has_one():
    """OpenShift runs images as a uid that no file knows; torch asks for its name and fails without USER."""
    for dockerfile in RECIPES:
        assert re.search(r"(?m)^ENV .*\bHOME=/tmp USER=meteor\b", dockerfile.read_text()), dockerfile.name


def test_images_install_from_locks_without_resolving():
    for dockerfile in RECIPES:
        text = dockerfile.read_text().replace("\\\n", " ")
        for command in re.findall(r"pip install (.+)", text):
            assert "--no-deps" in command or command.strip() == "-r requirements/torch.lock", command
            assert all(part.endswith(".lock") for part in re.findall(r'-r "?([^\s"]+)', command))


def test_only_the_api_is_published_and_on_loopback_by_default():
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert set(published) == {"api", "grafana"}
    assert SERVICES["grafana"]["profiles"] == ["monitoring"]
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])
    for port in published["api"]:
        assert filled(port, {}).startswith("127.0.0.1:")
        assert filled(port, {"METEOR_PUBLISH_ADDRESS": "192.0.2.1"}).startswith("192.0.2.1:")
    assert not [name for name, service in SERVICES.items() if service.get("network_mode") or service.get("privileged")]
    inside = {name for name, network in COMPOSE["networks"].items() if network and network.get("internal")}
    reaching_out = {name for name, service in SERVICES.items() if set(service["networks"]) - inside}
    assert reaching_out == {"api", "strong-gateway", "models", "teacher-model", "grafana"}


def test_containers_are_confined():
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        if name not in OWN:
            assert service["user"].split(":")[0] not in ("", "0", "root"), name
        one_shot = module_of(service["command"])[:2] == ("services.local", "models") if name in OWN else False
        assert one_shot or service["healthcheck"]["test"], name


def test_secrets_are_required_and_never_written_down():
    text = (ROOT / "docker-compose.yml").read_text()
    for name in REQUIRED:
        forms = {form for variable, form, _ in VARIABLE.findall(text) if variable == name}
        assert forms == {":?"}, f"{name} must be required wherever it stands"
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if SECRET_NAME.search(key):
                match = VARIABLE.fullmatch(str(value))
                assert match is not None, f"{name}: {key} has a literal value"
                assert match[2] == ":?" or not match[3], f"{name}: {key} has a default"
        for value in strings(service):
            for password in re.findall(r"://[^:/\s]*:([^@\s]+)@", VARIABLE.sub("", value)):
                pytest.fail(f"{name}: a password stands in {value!r}: {password}")
    provider_keys = {n for n, s in SERVICES.items() if "METEOR_TEACHER_API_KEY" in s.get("environment", {})}
    assert provider_keys == {"strong-gateway"}


def test_every_variable_is_explained_in_the_example_and_has_no_value_there():
    text = (ROOT / "docker-compose.yml").read_text()
    used = {name for name, _, _ in VARIABLE.findall(text)}
    defaults = {(name, default) for name, form, default in VARIABLE.findall(text) if form == ":-"}
    lines = (ROOT / ".env.example").read_text().splitlines()
    explained: dict[str, str] = {}
    for before, line in zip(["", *lines], lines, strict=False):
        if match := re.match(r"#? ?([A-Z][A-Z0-9_]*)=(.*)$", line):
            explained[match[1]] = match[2]
            assert before.startswith("#") or re.match(r"#? ?[A-Z0-9_]+=", before), f"{match[1]} has no explanation"
    assert used == set(explained), f"not explained {used - set(explained)}, not used {set(explained) - used}"
    for name, value in explained.items():
        assert not (SECRET_NAME.search(name) and value), f"{name} has a value"
    wrong = {(name, default) for name, default in defaults if explained[name] != default}
    assert not wrong, f"the example names other defaults: {wrong}"


def test_the_manual_names_every_setting():
    manual = (ROOT / "docs" / "reference" / "settings.md").read_text()
    aliases = {"METEOR_DATABASE_URL", "METEOR_REDIS_URL"}
    missing = {name for name in all_names() - aliases if f"`{name}`" not in manual}
    assert not missing
