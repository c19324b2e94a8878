"""Our resolver of vLLM's, without an engine: it fetches an adapter by its content hash, and nothing else."""

import json
from pathlib import Path

import pytest

from services.weak_model import adapter_resolver
from services.weak_model.engine import vllm as engine
from services.weak_model.settings import EngineSettings
from shared.artifacts.opening import open_artifacts
from shared.artifacts.serving import BASE, CONFIG, WEIGHTS
from shared.platform.settings import PlatformSettings

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")


@pytest.fixture
def published(tmp_path: Path) -> tuple[PlatformSettings, str]:
    """Settings of a host that has nothing yet, and an adapter that another one has published."""
    url, source = f"file://{tmp_path}/bucket", tmp_path / "adapter"
    source.mkdir()
    (source / CONFIG).write_text(json.dumps({"peft_type": "LORA", BASE: "tiny"}))
    (source / WEIGHTS).write_bytes(b"weights")
    digest = open_artifacts(PlatformSettings(data=tmp_path / "trainer", artifacts_url=url)).put_folder(source)
    return PlatformSettings(data=tmp_path / "engine", artifacts_url=url), digest


@pytest.mark.parametrize(
    ("name", "student", "there"),
    [
        ("{digest}", "tiny", True),
        ("{digest}", "other", False),
        ("{digest}x", "tiny", False),
        ("../adapters/job-9-v1", "tiny", False),
        ("0" * 64, "tiny", False),
        ("tiny", "tiny", False),
    ],
)
def test_only_an_adapter_of_this_base_is_found(
    published: tuple[PlatformSettings, str], name: str, student: str, there: bool
):
    settings, digest = published
    copy = adapter_resolver.serving_copy(
        name.format(digest=digest), open_artifacts(settings), settings.serving, student, "/models/tiny"
    )
    assert (copy is not None) == there
    if copy is not None:
        assert copy == settings.serving / digest
        assert json.loads((copy / CONFIG).read_bytes()) == {"peft_type": "LORA", BASE: "/models/tiny"}
        assert (copy / WEIGHTS).read_bytes() == b"weights"
        assert {path.name for path in settings.serving.iterdir()} == {digest}, "nothing half made is left"


async def test_vllm_is_given_the_request_for_the_copy(published: tuple[PlatformSettings, str], monkeypatch):
    pytest.importorskip("vllm")
    settings, digest = published
    monkeypatch.setenv("METEOR_STUDENT_MODEL", "tiny")
    resolver = adapter_resolver.resolver(settings)
    request = await resolver.resolve_lora("/models/tiny", digest)
    assert (request.lora_name, request.lora_path) == (digest, str(settings.serving / digest))
    assert await resolver.resolve_lora("/models/tiny", "0" * 64) is None


def test_without_object_storage_nothing_is_registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("METEOR_ARTIFACTS_URL", raising=False)
    monkeypatch.setattr(adapter_resolver, "resolver", None)  # it would fail
    adapter_resolver.register()


@pytest.mark.parametrize("url", [None, "s3://bucket/x"])
def test_vllm_gets_the_plugin_and_its_settings_where_there_is_object_storage(tmp_path: Path, url: str | None):
    settings = EngineSettings(served_name="tiny", model=str(tmp_path), lora=True)
    given = {"METEOR_DATA": "/data", "METEOR_INTERNAL_TOKEN": "secret"} | ({"METEOR_ARTIFACTS_URL": url} if url else {})
    made = engine.environment(given, settings, tmp_path, "token", True, [0])
    assert ("meteor_adapters" in made["VLLM_PLUGINS"]) == (url is not None)
    assert ("lora_filesystem_resolver" in made["VLLM_PLUGINS"]) == (url is None)
    assert made.get("METEOR_ARTIFACTS_URL") == url
    assert made.get("METEOR_STUDENT_MODEL") == ("tiny" if url else None)
    assert "METEOR_INTERNAL_TOKEN" not in made
