"""`meteor models pull` against a hub: gated and private repositories, tokens, refusals in the hub's words, broken downloads."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.local.models.folder import known_types
from services.local.models.prepare import pull
from shared.contracts.errors import MeteorError
from tests.fakes.hub import HubRepository, ModelHub, running_model_hub

# Which model types can be trained is what the installed library says.
WITH_TRANSFORMERS = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
GOOD, OTHER = "hf_good", "hf_other"


def files(config: dict | None = None, weights: str = "model.safetensors") -> dict[str, bytes]:
    return {"config.json": json.dumps(config or LLAMA).encode(), weights: b"weights" * 100, "tokenizer.json": b"{}"}


def quantised(**settings: object) -> dict[str, bytes]:
    return files(LLAMA | {"quantization_config": settings})


REPOSITORIES = {
    "open/model": HubRepository(files()),
    "gated/model": HubRepository(files(), "gated", frozenset({GOOD})),
    "gated/waiting": HubRepository(files(), "awaiting"),
    "me/private": HubRepository(files(), "private", frozenset({GOOD})),
    "old/bin": HubRepository(files(weights="pytorch_model.bin")),
    "some/gguf": HubRepository(files(weights="model.Q4_K_M.gguf")),
    "some/adapter": HubRepository({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}),
    "some/awq": HubRepository(quantised(quant_method="awq", bits=4)),
    "some/bnb": HubRepository(quantised(quant_method="bitsandbytes", load_in_4bit=True)),
    "some/mxfp4": HubRepository(quantised(quant_method="mxfp4")),
    "own/code": HubRepository(
        files({"model_type": "mystery", "auto_map": {"AutoModelForCausalLM": "modeling.Mystery"}})
    ),
    "new/family": HubRepository(files({"model_type": "mystery"})),
    "own/code-of-a-known-family": HubRepository(files(LLAMA | {"auto_map": {"AutoConfig": "configuration.Mine"}})),
}
# hub id, token -> what the message must hold
REFUSED = [
    ("gated/model", "", ["gated", "restricted", "/gated/model", "HF_TOKEN"]),
    ("gated/model", OTHER, ["gated", "restricted", "/gated/model", "account of your token"]),
    ("gated/waiting", OTHER, ["awaiting a review", "/gated/waiting"]),
    ("me/private", "", ["Repository not found", "HF_TOKEN", "/me/private"]),
    ("me/private", OTHER, ["Repository not found", "may read it"]),
    ("no/such", "", ["Repository not found", "Is the name right?"]),
    ("open/model", "hf_revoked", ["refuses the token", "Invalid credentials"]),
    ("old/bin", "", ["no safetensors", ".bin", "name a repository"]),
    ("some/gguf", "", ["no safetensors", ".gguf"]),
    ("some/adapter", "", ["LoRA adapter"]),
    ("some/awq", "", ["quantised", "awq, 4 bit", "unquantised"]),
    ("some/bnb", "", ["bitsandbytes, 4 bit"]),
    ("some/mxfp4", "", ["mxfp4"]),
    ("own/code", "", ["code of its own", "never run"]),
    ("new/family", "", ["does not know", "mystery"]),
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModelHub]:
    with running_model_hub(REPOSITORIES) as hub:
        hub.tokens = {GOOD, OTHER}
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def given(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)


@WITH_TRANSFORMERS
@pytest.mark.parametrize(("hub_id", "token", "words"), REFUSED)
def test_what_cannot_be_had_is_refused_in_the_hubs_words(
    hub_id: str, token: str, words: list[str], hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given(token, monkeypatch)
    with pytest.raises(MeteorError) as caught:
        pull(hub_id, tmp_path / "models")
    assert [word for word in words if word not in caught.value.message] == []
    assert "no hub answers" not in caught.value.message
    assert not [path for path, _ in hub.asked if path.endswith(".safetensors")], "gigabytes were fetched before"


@pytest.mark.parametrize("hub_id", ["open/model", "gated/model", "me/private", "own/code-of-a-known-family"])
def test_a_token_opens_gated_and_private_repositories(
    hub_id: str, hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given(GOOD, monkeypatch)
    model = pull(hub_id, tmp_path / "models")
    assert (model.path / "model.safetensors").read_bytes() == b"weights" * 100
    assert {token for _, token in hub.asked} == {GOOD}


def test_the_token_of_a_login_is_used(hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_text(GOOD)
    assert pull("me/private", tmp_path / "models").name == "me--private"


@pytest.mark.parametrize(("status", "words"), [(429, "try again in 300 s"), (503, "try again later")])
def test_a_busy_hub_is_said_to_be_busy(status: int, words: str, hub: ModelHub, tmp_path: Path):
    hub.fails = (status, "We are busy")
    with pytest.raises(MeteorError, match=f"answers {status} for open/model: We are busy; {words}"):
        pull("open/model", tmp_path / "models")


def test_a_download_that_breaks_off_goes_on_at_the_next_try(hub: ModelHub, tmp_path: Path):
    hub.cuts = 100
    with pytest.raises(MeteorError, match="the next try goes on"):
        pull("open/model", tmp_path / "models")
    hub.cuts = 0
    assert pull("open/model", tmp_path / "models").path.is_dir()


def test_only_where_none_answers_it_is_said_that_none_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MeteorError, match=r"no hub answers with open/model .*127\.0\.0\.1:9"):
        pull("open/model", tmp_path / "models")


def test_the_command_shows_one_sentence_and_no_traceback(hub: ModelHub, tmp_path: Path):
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "METEOR_MODELS": str(tmp_path / "m")}
    environment = {name: value for name, value in environment.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    argv = [sys.executable, "-m", "services.local", "models", "pull", "gated/model"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    assert "Accept its licence at" in done.stderr + done.stdout


@WITH_TRANSFORMERS
def test_known_types_are_those_of_the_installed_library():
    assert {"llama", "qwen3", "gemma3_text", "gemma3", "mixtral", "mamba2"} <= known_types()
