"""The Helm chart as Helm renders it: what runs, how it is confined, who reaches whom, and that it fits the services' code."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import Route

from deploy.sbom import stage
from services.api import app as api_app
from services.api.features.health.metrics import StoreCollector
from services.strong_model import main as gateway_main
from services.strong_model.gateway import app as gateway_app
from services.weak_model.engine import supervisor as engine_supervisor
from shared.contracts.steps import Queue
from shared.platform import process_guard
from tests.chart.release import (
    MISSING,
    NAMESPACE,
    VALUES,
    Object,
    Refused,
    Release,
    ask,
    at,
    containers,
    given,
    merged,
    release,
    selects,
    tools,
)  # fmt: skip
from tests.exported_metrics import open_api
from tests.fakes.kubernetes import running_cluster
from tests.unit.test_deploy import CONSUMERS
from tests.variables import CHART, FIXED, OTHERS_READ, PLACES, READS, ROOT, names_of

pytestmark = pytest.mark.skipif(tools() is None, reason=MISSING)
PINNED, OLDEST = "1.34.0", "1.30.0"  # what the chart is written for, and the oldest that it takes
COMPONENTS = {
    "api": "api", "orchestrator": "orchestrator", "gateway": "gateway", "weak-worker": "weakWorker",
    "strong-worker": "strongWorker", "judge": "judge", "trainer": "trainer", "engine": "engine",
}  # fmt: skip
OTHERS = {"router"}  # programs of other projects
GROUPS = {"apps", "batch", "policy", "networking.k8s.io", "rbac.authorization.k8s.io"}


@pytest.fixture(scope="module", params=VALUES)
def installed(request: pytest.FixtureRequest) -> Release:
    return release(given(request.param))


@pytest.fixture(scope="module")
def minimal() -> Release:
    return release(given("minimal"))


@pytest.fixture(scope="module")
def gpu() -> Release:
    return release(given("gpu"))


# ---- what Kubernetes takes


def test_every_object_is_valid():
    objects = [one for values in VALUES for one in release(given(values)).objects]
    known = [one for one in objects if "/" not in one["apiVersion"] or one["apiVersion"].split("/")[0] in GROUPS]
    own = [one for one in objects if one["kind"] in ("ScaledObject", "ServiceMonitor", "PrometheusRule")]
    others = {one["kind"] for one in objects if one not in known and one not in own}
    assert len(known) > 80
    assert others == {"ExternalSecret", "Route"}, "no schema at hand; docs/how-to/kubernetes.md says so"
    assert ask("validate", objects=known, versions=[PINNED])["errors"] == []
    oldest = [one for one in release(given("gpu")).objects if one in known]
    assert ask("validate", objects=oldest, versions=[OLDEST])["errors"] == []
    assert ask("crds", objects=own)["errors"] == []
    broken = merged(known[0], {"spec": {"nonsense": 1}})
    assert ask("validate", objects=[broken], versions=[PINNED])["errors"]
    assert ask("crds", objects=[merged(own[0], {"spec": {"nonsense": 1}})])["errors"]


@pytest.mark.parametrize("values", VALUES)
def test_lint_finds_nothing(values: str):
    assert ask("lint", chart=str(CHART), values=given(values))["findings"] == []


def test_names_are_unique_and_in_the_namespace(installed: Release):
    names = [(one["kind"], one["metadata"]["name"]) for one in installed.objects]
    assert len(names) == len(set(names))
    assert {one["metadata"]["namespace"] for one in installed.objects} == {NAMESPACE}
    assert all(len(name) <= 63 for _, name in names)


BAD = [
    ("image.registry", "", r"/image/registry'.*minLength"),
    ("image.digests", {"meteor-apy": "sha256:" + "0" * 64}, r"/image/digests'.*additional properties 'meteor-apy'"),
    ("apii", {}, r"additional properties 'apii' not allowed"),
    ("api.replica", 2, r"/api'.*additional properties 'replica'"),
    ("api.replicas", "two", r"/api/replicas'.*got string, want integer"),
    ("api.settings", {"METEOR_API_SHADOWZ": 1}, r"/api/settings'.*METEOR_API_SHADOWZ"),
    ("api.settings", {"METEOR_WEAK_TIMEOUT": "PT1M"}, r"/api/settings'.*METEOR_WEAK_TIMEOUT"),
    ("api.settings", {"METEOR_API_PORT": 9000}, r"/api/settings'.*METEOR_API_PORT"),
    ("settings", {"DATABASE_URL": "postgresql://u:p@h/d"}, r"/settings'.*DATABASE_URL"),
    ("gateway.replicas", -1, r"/gateway/replicas'.*minimum: got -1, want 0"),
    ("trainer.device", "tpu", r"/trainer/device'.*'cpu', 'gpu'"),
    ("engine.gpuMemoryUtilization", 90, r"/engine/gpuMemoryUtilization'.*maximum"),
    ("engine.external.url", "http://router:8000/v1", r"/engine/external/url'.*pattern"),
    ("secrets.existingSecret", "", r"/secrets"),
    ("storage.data", {"existingClaim": ""}, r"/storage/data"),
    ("teacher.model", "", r"teacher"),
    ("pod.securityContext.runAsNonRoot", False, r"/pod/securityContext/runAsNonRoot"),
    ("pod.securityContext.runAsUser", 0, r"additional properties 'runAsUser'"),
    ("ingress", {"enabled": True}, r"/ingress/host'.*minLength"),
    ("logs.level", "LOUD", r"/logs/level'.*'DEBUG'"),
    ("networkPolicy.database.port", 0, r"/networkPolicy/database/port'.*minimum"),
    ("student.model", "org/name", r"/student/model'.*pattern"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=[f"{path}={value}"[:50] for path, value, _ in BAD])
def test_bad_values_are_refused_where_they_stand(path: str, value: Any, message: str):
    with pytest.raises(Refused) as refused:
        release(merged(given("minimal"), at(path, value)))
    assert re.search(message, str(refused.value), re.DOTALL), str(refused.value)


SHARED = {"database-url": "postgresql://u:planted@postgres/meteor", "redis-url": "rediss://:planted@valkey:6379/0"}


@pytest.mark.parametrize(
    ("replicas", "secret", "message"),
    [
        (2, SHARED, None),
        (2, SHARED | {"database-url": "postgresql+psycopg://u:planted@postgres/meteor"}, None),
        (
            2,
            SHARED | {"database-url": "sqlite:////data/planted.sqlite3"},
            "key database-url .* a postgresql:// address",
        ),
        (2, SHARED | {"redis-url": "planted"}, "key redis-url .* a redis:// address"),
        (3, {"database-url": SHARED["database-url"]}, 'gateway.replicas is 3.* key redis-url of the Secret "meteor"'),
        (1, {"database-url": "sqlite:////data/planted.sqlite3"}, None),
    ],
)
def test_several_gateways_need_what_they_share(replicas: int, secret: dict[str, str], message: str | None):
    values = merged(given("minimal"), at("gateway.replicas", replicas))
    with running_cluster(NAMESPACE, "meteor", secret) as cluster:
        if message is None:
            assert release(values, cluster=cluster).deployments["gateway"]["spec"]["replicas"] == replicas
            return
        with pytest.raises(Refused, match=message) as refused:
            release(values, cluster=cluster)
    assert "planted" not in str(refused.value)


def test_gateways_before_their_secret_are_taken():
    """The External Secrets Operator makes it after the first installation."""
    with running_cluster(NAMESPACE, "another", {}) as cluster:
        assert release(given("gpu"), cluster=cluster).deployments["gateway"]["spec"]["replicas"] == 2


# ---- it fits the services


def test_each_process_is_started_as_elsewhere(installed: Release):
    assert set(installed.deployments) - OTHERS == set(COMPONENTS)
    images = {path.name.split(".")[0]: path.read_text() for path in (ROOT / "deploy" / "docker").glob("*.Dockerfile")}
    consumers = []
    for component in COMPONENTS:
        container = installed.container(component)
        assert container["command"][:2] == ["python", "-m"]
        module, *role = container["command"][2:]
        folder = module.replace(".", "/")
        assert (ROOT / folder / "__main__.py").is_file()
        name = container["image"].rpartition("/meteor-")[2].partition(":")[0]
        recipe, _, target = name.partition("-") if name.startswith(("trainer", "engine")) else (name, "", "")
        text = stage(images[recipe.replace("-", "_")], target or None)
        assert f"COPY {folder} {folder}\n" in text, f"{name} does not carry {module}"
        consumers.append((module, *role))
    assert all(consumers.count(CONSUMERS[queue]) == 1 for queue in Queue)


def test_jobs_run_modules_of_their_images(minimal: Release):
    commands = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"]["spec"]["containers"][0]
        for one in minimal.of("Job")
    }
    assert commands["migrations"]["command"] == ["python", "-m", "services.orchestrator.migrate"]
    assert commands["migrations"]["image"].endswith("/meteor-orchestrator:0.1.0")
    assert commands["models"]["command"][2:5] == ["services.local", "models", "pull"]


def test_every_variable_is_one_that_the_process_reads(installed: Release):
    for component, process in COMPONENTS.items():
        known = {name for one in READS[process] for field in one.model_fields for name in names_of(one, field)}
        strangers = set(installed.environment(component)) - known - OTHERS_READ - {"HF_TOKEN"}
        assert not strangers, f"{component} does not read {strangers}"


SENTINELS: dict[str, Any] = {
    "engine.external.url": "http://router:9000", "engine.external.controlUrl": "http://router:9001",
    "logs.level": "DEBUG", "logs.json": False, "caBundle": {"configMap": "company"}, "student.model": "m.1",
    "student.others": {"more": "m.2"}, "student.template": "mine.jinja", "student.templateArgs": {"enable": True},
    "providers.toml": "[providers.x]", "engine.gpuMemoryUtilization": 0.71, "trainer.gpus.count": 2, "engine.startMinutes": 71,
}  # fmt: skip
FLAT = {
    path.strip("`"): [name for name, place in PLACES.items() if place == path] for path in sorted(set(PLACES.values()))
}


@pytest.mark.parametrize("path", [path for path in FLAT if path != FIXED and not path.startswith("secret ")])
def test_a_value_sets_the_variable_that_the_table_names(path: str):
    base = merged(given("minimal"), {"judgeModel": {"model": "m"}, "trainer": {"device": "gpu"}})
    sentinel = SENTINELS.get(path, "https://s.example/v1" if path.endswith("baseUrl") else 71)
    sentinel = "sentinel" if path.endswith(("teacher.model", "judgeModel.model")) else sentinel
    if path == "engine.external.controlUrl":
        base = merged(base, at("engine.external.url", "http://router:9000"))
    before, after = release(base), release(merged(base, at(path, sentinel)))

    def values(name: str, of: Release) -> set[str]:
        return {of.environment(c).get(name, "") for c in of.deployments}

    for name in FLAT[path]:
        assert values(name, before) != values(name, after), f"{path} does not change {name}"


def test_secrets_come_from_the_secret_alone(installed: Release):
    keys = {name: place.removeprefix("secret `").rstrip("`") for name, place in PLACES.items() if "secret `" in place}
    for component in COMPONENTS:
        said = installed.environment(component)
        assert {name: value.split()[2] for name, value in said.items() if value.startswith("secret ")} == {
            name: key for name, key in keys.items() if name in said
        }
    holders = {c for c in COMPONENTS if "METEOR_TEACHER_API_KEY" in installed.environment(c)}
    assert holders == {"gateway"}
    assert "DATABASE_URL" not in installed.environment("engine")


def test_probes_ask_routes_that_exist(installed: Release):
    routes = set(json.loads((ROOT / "openapi.json").read_text())["paths"])
    gateway = {route.path for route in gateway_app.gateway_app({}).routes if isinstance(route, Route)}
    asked = {"api": routes, "gateway": gateway, "engine": {"/health", "/status"}}
    for component in COMPONENTS:
        container = installed.container(component)
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            if component in asked:
                assert probe["httpGet"]["path"] in asked[component]
                assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}
            else:
                assert probe["exec"]["command"][:2] == ["python", "deploy/healthcheck.py"]
    swapping = installed.container("engine")["livenessProbe"]["httpGet"]
    assert swapping == {"path": "/status", "port": "control"}, "an engine that swaps models answers no /health"


def test_a_pod_has_time_to_end(installed: Release):
    """Longer than the preStop pause and what the code takes at most."""
    takes = {
        "api": api_app.SHUTDOWN_S,
        "gateway": gateway_main.SHUTDOWN_S + gateway_app.DRAIN_S,
        "engine": engine_supervisor.END_S,
        "trainer": process_guard.GRACE_S + 3,
    }
    for component, deployment in installed.deployments.items():
        pod = deployment["spec"]["template"]["spec"]
        pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= pause + takes.get(component, 8.0) + 10
        assert bool(pause) == bool(pod["containers"][0].get("ports")), "who is asked leaves its Service first"


def test_gpus_are_asked_for_where_they_are_wanted(minimal: Release, gpu: Release):
    for of, wanted in ((minimal, set()), (gpu, {"trainer", "engine"})):
        assert {c for c in COMPONENTS if "nvidia.com/gpu" in of.container(c)["resources"]["limits"]} == wanted
    images = {gpu.container(c)["image"].rpartition("/")[2].partition(":")[0] for c in ("trainer", "engine")}
    assert images == {"meteor-trainer-gpu", "meteor-engine-gpu"}
    for component in ("trainer", "engine"):
        assert gpu.deployments[component]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_several_engines_are_not_asked_to_swap(minimal: Release):
    """A request for a model reaches any of them."""
    url = "METEOR_API_ENGINE_CONTROL_URL"
    assert minimal.environment("api")[url]
    for change in (at("engine.replicas", 2), at("engine.autoscaling.enabled", True)):
        assert release(merged(given("minimal"), change)).environment("api")[url] == ""


def test_an_engine_elsewhere_replaces_ours():
    elsewhere = release(merged(given("minimal"), at("engine.external.url", "http://router:8000")))
    assert "engine" not in elsewhere.deployments
    assert elsewhere.environment("weak-worker")["METEOR_WEAK_ENGINE_URL"] == "http://router:8000"
    assert not [one for one in elsewhere.objects if one["metadata"]["name"].endswith("-engine")]


def test_a_router_stands_before_several_engines(gpu: Release):
    """Asked are the routers, which find the engines' pods by their labels, and whose account may see pods and nothing else."""
    for name, component in (("METEOR_API_ENGINE_URL", "api"), ("METEOR_WEAK_ENGINE_URL", "weak-worker")):
        assert gpu.environment(component)[name] == "http://meteor-router:8103"
        assert gpu.environment(component)[name.replace("_URL", "_CONTROL_URL")] == ""
    command = gpu.container("router")["command"]
    wanted = dict(part.split("=") for part in command[command.index("--selector") + 1 :])
    labels = {c: one["spec"]["template"]["metadata"]["labels"] for c, one in gpu.deployments.items()}
    assert {c for c, its in labels.items() if selects({"matchLabels": wanted}, its)} == {"engine"}
    assert f"--service-discovery-namespace={NAMESPACE}" in command
    assert "env" not in gpu.container("router"), "it holds no secret"
    (role,), (binding,) = gpu.of("Role"), gpu.of("RoleBinding")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    accounts = {one["metadata"]["name"] for one in gpu.of("ServiceAccount")}
    (subject,) = binding["subjects"]
    assert subject["name"] == gpu.deployments["router"]["spec"]["template"]["spec"]["serviceAccountName"]
    assert subject["name"] in accounts
    with pytest.raises(Refused, match="clear one of the two"):
        release(merged(given("gpu"), at("engine.external.url", "http://router:8000")))


def test_one_engine_behind_a_router_swaps_no_models():
    one = release(merged(given("minimal"), at("router.enabled", True)))
    assert one.environment("api")["METEOR_API_ENGINE_CONTROL_URL"] == ""


# ---- confinement


def test_every_pod_is_restricted(installed: Release):
    for name, pod in installed.pods():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] == "meteor-router"), name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for container in containers(pod):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]
            assert "hostPort" not in str(container.get("ports"))
        assert all({"emptyDir", "persistentVolumeClaim", "configMap"} & one.keys() for one in spec.get("volumes", []))
    assert "runAsUser" not in str(installed.objects), "OpenShift gives the uid"


def test_openshift_gives_the_groups_too():
    openshift = release(given("openshift"))
    assert all("fsGroup" not in pod["spec"]["securityContext"] for _, pod in openshift.pods())
    assert [one["spec"]["to"]["name"] for one in openshift.of("Route")] == ["meteor-api"]


def test_what_a_process_writes_is_mounted(installed: Release):
    """METEOR_DATA of each lies in a volume that it may write."""
    for component in COMPONENTS:
        data = Path(installed.environment(component)["METEOR_DATA"])
        mounts = {Path(one["mountPath"]): one for one in installed.container(component)["volumeMounts"]}
        home = max((path for path in mounts if data.is_relative_to(path)), key=lambda path: len(path.parts))
        assert not mounts[home].get("readOnly"), f"{component} cannot write {data}"


def reaches(of: Release, source: Object, target: Object, port: int) -> bool:
    """Whether the network policies let a pod of the release reach another's port."""
    here, there = source["metadata"]["labels"], target["metadata"]["labels"]
    policies = [one["spec"] for one in of.of("NetworkPolicy")]

    def allowed(direction: str, peers: str, own: dict[str, str], other: dict[str, str]) -> bool:
        mine = [one for one in policies if selects(one["podSelector"], own)]
        assert mine, "a pod without a policy is open"
        return any(
            any("podSelector" in peer and selects(peer["podSelector"], other) for peer in rule.get(peers, []))
            and any(one["port"] == port for one in rule["ports"])
            for policy in mine
            for rule in policy[direction]
        )

    return allowed("egress", "to", here, there) and allowed("ingress", "from", there, here)


def test_the_network_lets_through_what_the_addresses_need_and_no_more(installed: Release):
    pods = {component: one["spec"]["template"] for component, one in installed.deployments.items()}
    services = {one["metadata"]["name"]: one["spec"] for one in installed.of("Service")}
    needed = set()
    for component in COMPONENTS:
        for value in installed.environment(component).values():
            for host, port in re.findall(r"^http://(meteor-[a-z-]+):(\d+)", value):
                service = services[host]
                assert [one["port"] for one in service["ports"]] == [int(port)]
                (home,) = [c for c, pod in pods.items() if selects({"matchLabels": service["selector"]}, pod["metadata"]["labels"])]  # fmt: skip
                ports = {one["name"]: one["containerPort"] for one in installed.container(home)["ports"]}
                needed.add((component, home, ports[service["ports"][0]["targetPort"]]))
    if "router" in pods:
        needed |= {("router", "engine", 8101)}
    listening = [(c, one["containerPort"]) for c in pods for one in installed.container(c).get("ports", [])]
    open_ = {(a, b, p) for a in pods for b, p in listening if reaches(installed, pods[a], pods[b], p)}
    assert needed <= open_
    spare = {pair for pair in open_ - needed if pair[2] != 8102}  # the control port of an engine that does not swap
    assert not spare


def test_only_the_api_takes_strangers(installed: Release):
    for policy in installed.of("NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            if not any("podSelector" in peer for peer in rule.get("from", [])):
                ports = {one["port"] for one in rule["ports"]}
                monitored = rule.get("from", [{}])[0].get("namespaceSelector", {}).get("matchLabels", {})
                assert ports == {8000} or "monitoring" in str(monitored), policy["metadata"]["name"]


def test_the_web_is_for_those_who_need_it(installed: Release):
    out = {
        policy["metadata"]["labels"]["app.kubernetes.io/component"]
        for policy in installed.of("NetworkPolicy")
        if "ipBlock" in str(policy["spec"]["egress"])
    }
    assert out == {"api", "gateway", "judge", "models"}


def test_a_rule_for_all_reaches_every_pod():
    """The engine too, which may reach nothing else."""
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 9000, "protocol": "TCP"}]}
    of = release(merged(given("minimal"), at("networkPolicy.objectStorage", [rule])))
    policies = [one["spec"] for one in of.of("NetworkPolicy") if rule in one["spec"]["egress"]]
    for name, pod in of.pods():
        assert any(selects(one["podSelector"], pod["metadata"]["labels"]) for one in policies), name


# ---- operation


def test_each_process_has_one_budget(installed: Release):
    for component, deployment in installed.deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        budgets = [one for one in installed.of("PodDisruptionBudget") if selects(one["spec"]["selector"], labels)]
        assert [one["spec"]["maxUnavailable"] for one in budgets] == [1], component


def test_gateways_are_replaced_and_spread_as_the_api_is(gpu: Release):
    """None is taken away before another one answers; the workers' address is the Service before them."""
    pods = {}
    for component in ("api", "gateway"):
        spec = gpu.deployments[component]["spec"]
        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        pods[component] = spec["template"]["spec"]
        assert {one["topologyKey"] for one in pods[component]["topologySpreadConstraints"]} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
    assert pods["gateway"]["containers"][0]["lifecycle"] == pods["api"]["containers"][0]["lifecycle"]
    required = [one for one in gpu.container("gateway")["env"] if one["name"] in ("DATABASE_URL", "REDIS_URL")]
    assert [one["valueFrom"]["secretKeyRef"].get("optional", False) for one in required] == [False, False]


def test_monitors_find_their_services(gpu: Release):
    watched = {}
    for monitor in gpu.of("ServiceMonitor"):
        for service in gpu.of("Service"):
            if selects(monitor["spec"]["selector"], service["metadata"]["labels"]):
                ports = {one["name"] for one in service["spec"]["ports"]}
                assert {one["port"] for one in monitor["spec"]["endpoints"]} <= ports
                watched[monitor["metadata"]["name"]] = service["metadata"]["name"]
    names = ("api", "gateway", "engine", "engine-control", "router-metrics")
    assert watched == {f"meteor-{name}": f"meteor-{name}" for name in names}


def test_the_alert_rules_are_those_of_the_deployment(gpu: Release, minimal: Release):
    """One file for Compose and for a cluster; its jobs are those that the monitors give their targets."""
    (rules,) = gpu.of("PrometheusRule")
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
    assert rules["metadata"]["labels"]["release"] == "prometheus", "the operator's Prometheus selects by it"
    assert not minimal.of("PrometheusRule")
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    ports = {
        job["job_name"]: job["static_configs"][0]["targets"][0].partition(":")[2] for job in config["scrape_configs"]
    }
    services = {one["metadata"]["name"]: str(one["spec"]["ports"][0]["port"]) for one in gpu.of("Service")}
    watched = {}
    for monitor in gpu.of("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        (relabeling,) = endpoint["relabelings"]
        assert relabeling["targetLabel"] == "job"
        watched[relabeling["replacement"]] = services[monitor["metadata"]["name"]]
    assert watched.pop("vllm-router") == "8104", "Compose has one engine and no router"
    assert watched == ports


def test_a_checkout_without_links_is_told(tmp_path: Path):
    chart = tmp_path / "meteor"
    shutil.copytree(CHART, chart)
    (chart / "files" / "alerts.yml").write_text("../../../alerts.yml")
    with pytest.raises(Refused, match=r"symbolic link to deploy/alerts\.yml"):
        release(given("gpu"), chart)


def test_load_is_counted_by_metrics_that_exist(gpu: Release, tmp_path: Path):
    """Names and labels of the queries are those that api and vLLM serve."""
    served = {family.name: family for family in StoreCollector(open_api(tmp_path)).collect()}
    labels = {tuple(sorted(sample.labels.items())) for sample in served["meteor_steps"].samples}
    for one in gpu.of("ScaledObject"):
        target = one["spec"]["scaleTargetRef"]["name"]
        assert target in {d["metadata"]["name"] for d in gpu.deployments.values()}
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        assert "replicas" not in gpu.deployments[component]["spec"], "an upgrade would set the number back"
        for trigger in one["spec"]["triggers"]:
            query = trigger["metadata"].get("query", "")
            for queue, states in re.findall(r'meteor_steps\{[^}]*queue="(\w+)",state=~"([\w|]+)"\}', query):
                assert {(("queue", queue), ("state", state)) for state in states.split("|")} <= labels
                assert tuple(gpu.container(component)["command"][2:]) == CONSUMERS[Queue(queue)]
            assert trigger["type"] == "cpu" or "meteor_steps{" in query or re.search(r"vllm:num_requests_(waiting|running)\{", query)  # fmt: skip


def test_a_busy_queue_asks_for_more_workers(gpu: Release):
    """One job holds at most two steps for each slot: at that limit the wanted number is above the present one."""
    for component in ("weak-worker", "strong-worker", "judge", "trainer"):
        (scaled,) = [one for one in gpu.of("ScaledObject") if one["metadata"]["name"] == f"meteor-{component}"]
        (slots,) = [int(v) for name, v in gpu.environment(component).items() if name.endswith("_SLOTS")] or [1]
        threshold = int(scaled["spec"]["triggers"][0]["metadata"]["threshold"])
        assert 2 * slots / threshold > 1
