"""What our processes really export: `python -m tests.exported_metrics` writes the tables of docs/reference/metrics.md."""

import importlib
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from services.api.context import ApiContext, open_context
from services.api.features.health.metrics import StoreCollector
from services.api.settings import ApiSettings
from services.weak_model.engine import metrics as engine_metrics
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from services.weak_model.engine.supervisor import EngineSupervisor, Timing
from services.weak_model.settings import EngineSettings
from shared.platform.settings import PlatformSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reference/metrics.md"
BEGIN, END = "<!-- made by `python -m tests.exported_metrics` -->", "<!-- end -->"
DEFINES = re.compile(r"^from prometheus_client import .*\b(?:Counter|Gauge|Histogram)\b", re.MULTILINE)
PROCESSES = {"api": ("services/api", "shared"), "gateway": ("services/strong_model", "shared")}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


class Exported(NamedTuple):
    """A family: its name as rules and boards write it, without the suffixes of a histogram's series."""

    process: str
    name: str
    type: str
    labels: tuple[str, ...]
    told: str

    @property
    def series(self) -> list[str]:
        """The names of its series."""
        base = self.name.removesuffix("_total") if self.type == "counter" else self.name
        return [base + suffix for suffix in SUFFIXES[self.type]]


def modules_with_metrics(folders: Iterable[str]) -> list[str]:
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if DEFINES.search(path.read_text())
    ]


def written_by(process: str) -> list[Exported]:
    """Metrics that the process's modules define."""
    made: list[Exported] = []
    for module in modules_with_metrics(PROCESSES[process]):
        for value in vars(importlib.import_module(module)).values():
            if hasattr(value, "_labelnames") and hasattr(value, "_documentation"):
                name = value._name + ("_total" if value._type == "counter" else "")
                made.append(Exported(process, name, value._type, tuple(value._labelnames), value._documentation))
    return sorted(set(made))


def of_families(process: str, families: Iterable[Metric]) -> list[Exported]:
    made = []
    for family in families:
        labels = tuple(dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le"))
        name = family.name + ("_total" if family.type == "counter" else "")
        made.append(Exported(process, name, family.type, labels, family.documentation))
    return made


def open_api(data: Path) -> ApiContext:
    platform = PlatformSettings(data=data, database_url=None)
    return open_context(ApiSettings(), platform)


def counted_by_api(data: Path) -> list[Exported]:
    """Those that are counted in databases and on the disk."""
    collector = StoreCollector(open_api(data))
    collector._stored._reading.acquire()
    collector._stored._read()
    return of_families("api", collector.collect())


def counted_by_engine() -> list[Exported]:
    settings = EngineSettings(served_name="a", model="a")
    scheduler = ModelScheduler("a", Rules.of(settings))
    never = cast(Any, lambda *_: False)
    engine = EngineSupervisor(never, never, never, never, Timing.of(settings), scheduler)
    return of_families("engine", engine_metrics.EngineMetrics(engine).collect())


def all_exported(data: Path) -> list[Exported]:
    ours = [*counted_by_api(data), *counted_by_engine(), *(one for name in PROCESSES for one in written_by(name))]
    return sorted(set(ours), key=lambda one: (one.process, one.name))


def of_the_client() -> list[str]:
    """Names that prometheus-client itself exports in every process that has it."""
    return [name for name in REGISTRY._names_to_collectors if name.startswith(("process_", "python_"))]


def table(process: str, exported: Iterable[Exported]) -> str:
    lines = ["| metric | type | labels | what |", "|---|---|---|---|"]
    for one in exported:
        if one.process == process:
            labels = ", ".join(f"`{label}`" for label in one.labels) or "-"
            lines.append(f"| `{one.name}` | {one.type} | {labels} | {one.told} |")
    return "\n".join(lines)


def page(text: str, exported: list[Exported]) -> str:
    """The page with its tables, one per process, in the order of the page's markers."""
    parts = text.split(BEGIN)
    made = [parts[0]]
    for part, process in zip(parts[1:], ("api", "gateway", "engine"), strict=True):
        made.append(f"{BEGIN}\n{table(process, exported)}\n{END}{part.split(END, 1)[1]}")
    return "".join(made)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(PAGE.read_text(), all_exported(Path(folder))))
    sys.stderr.write(f"wrote {PAGE}\n")
