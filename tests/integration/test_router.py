"""vllm-router before several engines, as the chart starts it: it finds them by the pods of Kubernetes, and our clients lose nothing by it.

The engines are fakes on addresses of loopback, each at the same port as pods are.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from services.weak_model.worker.student_client import StudentClient
from shared.contracts.steps import Sampling
from tests.fakes.kubernetes import Pods, running_pods
from tests.fakes.loopback import LOOPBACK
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import running
from tests.fakes.vllm import running_vllm

ROUTER = shutil.which("vllm-router", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
pytestmark = [
    pytest.mark.skipif(ROUTER is None, reason="vllm-router is not installed: requirements/dev.lock"),
    pytest.mark.timeout(300),
]
TOKEN, NAMESPACE = "router-test-token", "production"
LABELS = {"app.kubernetes.io/name": "meteor", "app.kubernetes.io/component": "engine"}
ADAPTER = "a" * 64  # a router does not know the names of adapters


@contextmanager
def running_router(log: Path, *options: str, env: dict[str, str] | None = None) -> Generator[str]:
    """Its URL, from the time it has an engine."""
    assert ROUTER is not None
    port = free_port()
    command = [ROUTER, "--host=127.0.0.1", f"--port={port}", "--prometheus-host=127.0.0.1"]
    command += [f"--prometheus-port={free_port()}", "--worker-startup-check-interval=1", *options]
    with log.open("w") as told:
        router = subprocess.Popen(command, env=os.environ | (env or {}), stdout=told, stderr=told)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _ready(router, url, log), 60, "the router")
        yield url
    finally:
        router.kill()
        router.wait()


def _ready(router: subprocess.Popen, url: str, log: Path) -> bool:
    assert router.poll() is None, log.read_text()[-2000:]
    try:
        return LOOPBACK.get(f"{url}/readiness").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


class Cluster:
    """Pods with engines in them, and a router that watches them."""

    def __init__(self, folder: Path, pods: Pods, stack: ExitStack):
        self.folder, self.pods, self.stack = folder, pods, stack
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen] = {}
        self.url = ""

    def start(self, number: int) -> None:
        """An engine at its own address, before its pod is there."""
        address = f"127.0.0.{number}"
        argv = ["--address", address, "--port", str(self.port), "--log", str(self._log(number)), "--latency", "0.2"]
        argv += ["--api-key", TOKEN, "--model", "tiny"]
        started = running(["tests.fakes.engine", *argv], f"http://{address}:{self.port}/health")
        self.processes[address] = self.stack.enter_context(started)
        self.pods.start(f"engine-{number}", address, LABELS)

    def _log(self, number: int) -> Path:
        return self.folder / f"engine-{number}.jsonl"

    def answered(self, number: int) -> int:
        return len(self._log(number).read_text().splitlines()) if self._log(number).exists() else 0

    async def ask(self, count: int) -> int:
        """So many questions at once with one long beginning, as the rows of a step have it. How many were answered."""
        rules = "Answer as an expert of the Linux shell. " * 40
        async with StudentClient(self.url, TOKEN, 60, 20) as client:
            replies = await asyncio.gather(*(
                client.complete(
                    ADAPTER,
                    [{"role": "system", "content": rules}, {"role": "user", "content": f"question {number}"}],
                    Sampling(max_tokens=8),
                    seed=number,
                )
                for number in range(count)
            ))  # fmt: skip
        return sum(bool(reply.text) for reply in replies)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two engines and a pod of another process."""
    with running_pods(NAMESPACE) as pods, ExitStack() as stack:
        cluster = Cluster(tmp_path, pods, stack)
        pods.start("trainer", "127.0.0.9", LABELS | {"app.kubernetes.io/component": "trainer"})
        cluster.start(2)
        cluster.start(3)
        config = tmp_path / "kubeconfig"
        config.write_text(
            json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": pods.url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            })
        )  # fmt: skip
        selector = ["--selector", *(f"{name}={value}" for name, value in LABELS.items())]
        options = [f"--service-discovery-port={cluster.port}", f"--service-discovery-namespace={NAMESPACE}"]
        options += ["--service-discovery", "--policy=cache_aware", "--balance-abs-threshold=16", *selector]
        log = tmp_path / "router.log"
        with running_router(log, *options, env={"KUBECONFIG": str(config)}) as cluster.url:
            wait_until(lambda: "127.0.0.3" in log.read_text().rpartition("Added worker")[2], 60, "both engines")
            yield cluster


async def test_engines_come_and_go_and_no_request_fails(cluster: Cluster):
    """Also where one is killed in the midst of its answers."""
    assert await cluster.ask(64) == 64
    assert min(cluster.answered(2), cluster.answered(3)) > 8, "one beginning does not bind all rows to one engine"

    work = asyncio.create_task(cluster.ask(48))
    await asyncio.sleep(0.1)
    cluster.processes["127.0.0.3"].kill()
    assert await work == 48

    cluster.pods.end("engine-3")
    cluster.start(4)
    for _ in range(60):
        assert await cluster.ask(40) == 40
        if cluster.answered(4):
            return
    raise AssertionError("the engine that started later was asked nothing")


def test_a_request_reaches_the_engine_as_it_was_sent(tmp_path: Path):
    """All fields that we send, also those which OpenAI's protocol does not have, and the callers' token."""
    fields = {
        "temperature": 0.0, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 1 << 40, "n": 1, "priority": 7, "prompt_logprobs": 0,
        "max_tokens": 3, "stop": ["x"], "logprobs": True, "top_logprobs": 2, "repetition_penalty": 1.1, "min_tokens": 1,
        "chat_template_kwargs": {"enable_thinking": False}, "structured_outputs": {"regex": "a+"}, "return_token_ids": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": "none",
        "add_generation_prompt": False, "continue_final_message": True, "of_a_later_version": {"a": [1]},
    }  # fmt: skip
    messages = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}, {"role": "assistant", "content": "a"}]
    bodies = {
        "/v1/chat/completions": {"model": ADAPTER, "messages": messages} | fields,
        "/v1/completions": {"model": ADAPTER, "prompt": [[1, 2, 3], [4, 5]], "prompt_logprobs": 0, "max_tokens": 1},
    }
    with (
        running_vllm({ADAPTER}) as engine,
        running_router(tmp_path / "router.log", "--worker-urls", engine.url) as url,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False) as http,
    ):
        for route, body in bodies.items():
            assert http.post(route, json=body).status_code == httpx.codes.OK
            assert {name: engine.last.get(name) for name in body} == body
            assert engine.asked[-1][1] == f"Bearer {TOKEN}"
        refused = http.post("/v1/chat/completions", json={"model": "nobody", "messages": messages[:1]})
        assert refused.status_code == httpx.codes.NOT_FOUND
        assert refused.json()["error"]["message"] == "The model `nobody` does not exist."
