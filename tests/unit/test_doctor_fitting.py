"""What the doctor says of a student's memory, on a GPU and without one."""

import json
from pathlib import Path

import pytest

from services.local.doctor import fitting
from services.local.doctor.finding import Health, Installation

CONFIG = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
CONFIG |= {"num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False}


@pytest.mark.parametrize(
    ("gpu", "environment", "told"),
    [
        (80.0, {}, [(Health.OK, "training an adapter takes", "")]),
        (24.0, {}, [(Health.WARN, "its engine takes 17.8 GB", "raise METEOR_ENGINE_GPU_MEMORY_UTILIZATION"), (Health.WARN, "13.2 of 24.0 GB", "load_in_4bit")]),
        (24.0, {"METEOR_WEAK_ENGINE_URL": "http://there"}, [(Health.OK, "24.0 of 24.0 GB", "")]),
        (24.0, {"METEOR_ENGINE_GPU_MEMORY_UTILIZATION": "0.8"}, [(Health.WARN, "4.8 of 24.0 GB", "smaller student")]),
        (24.0, {"METEOR_DEVICE_SHARING": "time"}, [(Health.OK, "24.0 of 24.0 GB", "")]),
        (16.0, {"METEOR_DEVICE_SHARING": "time"}, [(Health.WARN, "0.9 gives it 14.4 of 16.0 GB", "smaller student"), (Health.WARN, "16.0 of 16.0 GB", "load_in_4bit")]),
        (16.0, {"METEOR_WEAK_ENGINE_URL": "http://there"}, [(Health.WARN, "16.0 of 16.0 GB", "let 2 GPUs hold it in parts: set METEOR_TRAINER_GPUS to 0,1")]),
        (16.0, {"METEOR_WEAK_ENGINE_URL": "http://there", "METEOR_TRAINER_GPUS": "0,1,2"}, [(Health.OK, "3 GPUs hold it in parts", "")]),
        (None, {}, [(Health.OK, "training an adapter takes", "")]),
    ],
)  # fmt: skip
def test_an_8b_on_a_device(
    gpu: float | None,
    environment: dict[str, str],
    told: list[tuple[Health, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(fitting, "parameters_of", lambda _: 8.03e9)
    monkeypatch.setattr(fitting, "gpu_gb", lambda: gpu)
    monkeypatch.setattr(fitting, "gpu_count", lambda: 2 if gpu == 16 and "METEOR_WEAK_ENGINE_URL" in environment else 1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fitting.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 64e9}))
    findings = list(fitting.student(Installation.of(tmp_path / "data", environment), "big", tmp_path))
    assert [finding.health for finding in findings] == [health for health, _, _ in told]
    for finding, (_, message, fix) in zip(findings, told, strict=True):
        assert message in finding.message
        assert fix in finding.fix


def test_nothing_is_said_of_a_folder_without_figures(tmp_path: Path):
    assert not list(fitting.student(Installation.of(tmp_path, {}), "big", tmp_path))
