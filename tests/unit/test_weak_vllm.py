"""How vLLM is started and how its end is explained, without starting it."""

import importlib
import json
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.weak_model.engine import vllm
from services.weak_model.engine.main import _empty
from services.weak_model.settings import EngineSettings
from shared.contracts.errors import FatalError

ADAPTERS = Path("/data/serving")


def settings(**values) -> EngineSettings:
    given: dict[str, Any] = {"model": "org/student", "served_name": "student", "port": 9, **values}
    return EngineSettings(**given)


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(f"--{name}") + 1]


def test_command_line_on_a_cpu():
    argv = vllm.command_line(settings(kv_cache_gb=0.5), cpu=True)
    assert argv[0] == sys.executable
    assert option(argv, "model") == "org/student"
    assert option(argv, "served-model-name") == "student"
    assert option(argv, "kv-cache-memory-bytes") == str(2**29)
    assert option(argv, "generation-config") == "vllm"
    assert {"--enforce-eager", "--enable-lora", "--enable-prefix-caching", "--no-enable-chunked-prefill"} <= set(argv)
    assert option(argv, "scheduling-policy") == "priority"
    assert not {"--gpu-memory-utilization", "--tool-call-parser", "--enable-auto-tool-choice"} & set(argv)


@pytest.mark.parametrize(
    ("config", "restricted"),
    [
        ({"num_experts": 4}, True),
        ({"text_config": {"num_local_experts": 8}}, True),
        ({"num_local_experts": 0, "hidden_size": 32}, False),
        (None, False),
    ],
)
def test_adapters_of_a_mixture_of_experts_sit_on_its_attention_where_vllm_runs_on_a_cpu(
    tmp_path: Path, config: dict | None, restricted: bool
):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    on_cpu, on_gpu = (vllm.command_line(settings(model=str(tmp_path)), cpu) for cpu in (True, False))
    assert ("--lora-target-modules" in on_cpu) is restricted
    assert "--lora-target-modules" not in on_gpu
    assert not restricted or option(on_cpu, "lora-target-modules") == "q_proj"
    assert "--lora-target-modules" not in vllm.command_line(settings(model=str(tmp_path), lora=False), cpu=True)


def test_tools_are_read_where_a_parser_is_named():
    argv = vllm.command_line(settings(tool_call_parser="hermes"), cpu=True)
    assert option(argv, "tool-call-parser") == "hermes"
    assert "--enable-auto-tool-choice" in argv


def test_command_line_on_a_gpu_compiles_and_takes_a_share_of_the_memory():
    argv = vllm.command_line(settings(), cpu=False)
    assert option(argv, "gpu-memory-utilization") == "0.45"
    assert not {"--enforce-eager", "--kv-cache-memory-bytes", "--no-enable-chunked-prefill"} & set(argv)


@pytest.mark.parametrize(
    ("wanted", "cpu", "flags", "dtype"),
    [
        ("auto", True, {"avx2", "avx512f"}, "float32"),
        ("auto", True, {"avx512_bf16"}, "auto"),
        ("auto", True, {"asimd", "bf16"}, "auto"),
        ("bfloat16", True, {"avx2"}, "bfloat16"),
        ("auto", False, {"avx2"}, "auto"),
    ],
)
def test_a_processor_that_emulates_bfloat16_gets_float32(wanted: str, cpu: bool, flags: set[str], dtype: str):
    assert vllm.dtype(wanted, cpu, frozenset(flags)) == dtype


def test_threads_may_be_fewer_than_cores():
    assert vllm.environment({}, settings(threads=1), ADAPTERS, "", True, [0, 1])["OMP_NUM_THREADS"] == "1"


def test_a_teacher_is_served_without_lora():
    argv = vllm.command_line(settings(lora=False), cpu=True)
    assert not {"--enable-lora", "--max-lora-rank", "--max-loras"} & set(argv)
    assert "VLLM_PLUGINS" not in vllm.environment({}, settings(lora=False), ADAPTERS, "t", True, [0])


def test_the_environment_holds_what_vllm_needs_and_none_of_our_secrets(tmp_path: Path):
    inherited = {
        "PATH": "/bin",
        "METEOR_INTERNAL_TOKEN": "sesame",
        "METEOR_TEACHER_API_KEY": "sk",
        "DATABASE_URL": "postgresql://u:p@h/d",
        "REDIS_URL": "redis://:p@h",
    }
    environment = vllm.environment(inherited, settings(model=str(tmp_path)), ADAPTERS, "sesame", True, [1, 0])
    assert not set(inherited) - {"PATH"} & set(environment)
    assert environment["PATH"] == "/bin"
    assert environment["VLLM_API_KEY"] == "sesame"
    assert environment["VLLM_LORA_RESOLVER_CACHE_DIR"] == str(ADAPTERS)
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert (environment["OMP_WAIT_POLICY"], environment["OMP_NUM_THREADS"]) == ("passive", "2")
    assert "sesame" not in " ".join(vllm.command_line(settings(), cpu=True))


def test_chosen_cores_are_bound_by_vllm_itself():
    environment = vllm.environment({}, settings(omp_threads_bind="1"), ADAPTERS, "", True, [0, 1])
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "1"
    assert not {"VLLM_ENABLE_V1_MULTIPROCESSING", "OMP_NUM_THREADS"} & set(environment)


def test_the_operator_may_let_threads_spin():
    assert (
        vllm.environment({"OMP_WAIT_POLICY": "active"}, settings(), ADAPTERS, "", True, [0])["OMP_WAIT_POLICY"]
        == "active"
    )


def test_a_hub_model_may_use_the_hub_and_a_gpu_gets_no_thread_settings():
    environment = vllm.environment({}, settings(), ADAPTERS, "", False, [0, 1])
    assert not {
        "HF_HUB_OFFLINE",
        "VLLM_API_KEY",
        "VLLM_CPU_OMP_THREADS_BIND",
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
    } & set(environment)


@pytest.mark.parametrize(("cores", "text"), [([0, 1], "0-1"), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8")])
def test_core_list(cores: list[int], text: str):
    assert vllm.core_list(cores) == text


def test_the_student_of_the_deployment_is_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_STUDENT_PATH", "/models/s")
    monkeypatch.setenv("METEOR_STUDENT_MODEL", "s")
    assert (EngineSettings().model, EngineSettings().served_name) == ("/models/s", "s")
    monkeypatch.setenv("METEOR_ENGINE_MODEL", "/models/teacher")
    monkeypatch.setenv("METEOR_ENGINE_SERVED_NAME", "teacher")
    assert (EngineSettings().model, EngineSettings().served_name) == ("/models/teacher", "teacher")


def test_an_engine_that_lends_its_device_takes_most_of_it_and_can_sleep_where_vllm_can():
    lending, stopping = (vllm.command_line(settings(), False, None, vllm.Sharing(sleeps)) for sleeps in (True, False))
    assert option(lending, "gpu-memory-utilization") == "0.9"
    assert option(lending, "middleware") == option(stopping, "middleware") == vllm.GUARD
    assert ("--enable-sleep-mode" in lending, "--enable-sleep-mode" in stopping) == (True, False)
    given = vllm.command_line(settings(gpu_memory_utilization=0.6), False, None, vllm.Sharing(True))
    assert option(given, "gpu-memory-utilization") == "0.6"
    assert not {"--middleware", "--enable-sleep-mode"} & set(vllm.command_line(settings(), cpu=False))


def test_the_sleep_guard_is_there_for_a_server_that_is_started_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    launch = vllm.launch(settings(), ADAPTERS, "t", False, [0], tmp_path, None, vllm.Sharing(True))
    assert launch.environment["PYTHONPATH"] == f"{vllm.HERE}:/elsewhere"
    module, name = vllm.GUARD.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), name)
    assert "VLLM_SERVER_DEV_MODE" not in launch.environment


def test_speculation_and_fp8_are_off_unless_they_are_set():
    plain = vllm.command_line(settings(), cpu=False)
    assert not {"--speculative-config", "--quantization", "--kv-cache-dtype"} & set(plain)
    argv = vllm.command_line(settings(speculative_tokens=4, quantization="fp8", kv_cache_dtype="fp8"), cpu=False)
    assert json.loads(option(argv, "speculative-config")) == {
        "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 4
    }  # fmt: skip
    assert (option(argv, "quantization"), option(argv, "kv-cache-dtype")) == ("fp8", "fp8")
    with pytest.raises(ValueError, match="PROMPT_LOOKUP_MIN is larger"):
        settings(prompt_lookup_min=5)


@pytest.mark.parametrize(
    ("cpu", "capability", "words"),
    [
        (True, None, "computes on a CPU"),
        (False, 8.0, "compute capability 8.0, and fp8 begins with 8.9"),
        (False, 8.9, None),
        (False, 9.0, None),
        (False, None, None),
    ],
)
def test_fp8_is_refused_where_the_device_lacks_it(cpu: bool, capability: float | None, words: str | None):
    vllm.check_device(settings(), cpu, capability)
    wanted = settings(quantization="fp8")
    if words is None:
        vllm.check_device(wanted, cpu, capability)
        return
    with pytest.raises(FatalError, match=f"METEOR_ENGINE_QUANTIZATION is fp8, and .*{words}"):
        vllm.check_device(wanted, cpu, capability)


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("ValueError: Sleep mode is not supported on current platform.", True),
        ("ValueError: cumem allocator is not supported on current platform.", True),
        ("ValueError: Model architectures ['Odd'] are not supported for now.", False),
    ],
)
def test_vllms_words_on_sleep_mode_are_known(line: str, lacks: bool):
    assert vllm.lacks_sleep_mode(["loading", line]) is lacks


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"served_name": ""}, "SERVED_NAME"),
        ({"model": ""}, "METEOR_ENGINE_MODEL"),
        ({"model": "/nowhere/at/all"}, "no config.json"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(values: dict, words: str):
    with pytest.raises(FatalError, match=words):
        vllm.check(settings(**values))


def test_a_running_engine_needs_no_model():
    vllm.check(settings(model="", url="http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("code", "lines", "words"),
    [
        (1, ["(W) ValueError: Available memory on node 0 (1/8 GiB) on kv cache allocation is less"], "not enough memory"),
        (1, ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"], "not enough memory"),
        (137, ["loading"], "killed, most likely because memory ran out"),
        (1, ["OSError: [Errno 98] Address already in use"], "port is taken"),
        (1, ["python: Error while finding module specification: No module named 'vllm'"], "not installed"),
        (1, ["something odd"], "no known cause"),
        (0, ["leaving"], "another process ended it"),
    ],
)  # fmt: skip
def test_the_end_is_explained(code: int, lines: list[str], words: str):
    said = vllm.explain(code, lines)
    assert words in said
    assert lines[-1] in said


def test_what_follows_every_end_is_left_out():
    said = vllm.explain(
        1, ["the last word", "nanobind: leaked 514 functions!", ' - leaked function "x"', "WARNING OSError: a"]
    )
    assert said.endswith("the last word")


def test_the_first_error_is_told_though_the_log_went_on():
    said = vllm.explain(1, ["RuntimeError: the true cause", *[f"line {n}" for n in range(100)]])
    assert "the true cause" in said
    assert "line 99" in said
    assert "line 50" not in said


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="m-", dir="/tmp") as folder:
        yield Path(folder)


def test_the_engines_sockets_have_a_folder_of_their_own_whatever_the_path(short_path: Path):
    near, far = short_path / "data", short_path.joinpath(*["deep-folder"] * 9)
    assert vllm.socket_folder(near, 9) == near / "sockets" / "engine-9"
    folders = {vllm.socket_folder(data, port) for data in (near, far) for port in (9, 10)}
    assert len(folders) == 4
    for folder in folders:
        assert len(f"{folder}/{uuid.uuid4()}") <= 107
        with socket.socket(socket.AF_UNIX) as probe:  # the kernel's own word on the length
            folder.mkdir(parents=True, exist_ok=True)
            probe.bind(f"{folder}/{uuid.uuid4()}")
        shutil.rmtree(folder)
    made = vllm.launch(settings(), ADAPTERS, "", True, [0], near)
    assert made.environment["VLLM_RPC_BASE_PATH"] == str(near)


def test_what_a_killed_engine_left_is_gone_at_the_next_start(tmp_path: Path):
    (tmp_path / "sockets").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "sockets" / "a"))
    _empty(tmp_path / "sockets")
    assert list((tmp_path / "sockets").iterdir()) == []
    assert (tmp_path / "sockets").stat().st_mode & 0o777 == 0o700
