"""What an upgrade from the chart's version before changes, for each file of values that came with that version.

METEOR_CHART_TOOLS=... python -m tests.chart.upgrade
"""

import difflib
import tarfile
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.release import VALUES, Object, Release, release

BEFORE = sorted((Path(__file__).parents[1] / "data" / "charts").glob("meteor-*.tgz"))[-1]
# Where an object's field cannot be changed: Kubernetes refuses the upgrade, or the data is lost with the object.
FIXED: dict[str, tuple[tuple[str, ...], ...]] = {
    "Deployment": (("spec", "selector"),),
    "PersistentVolumeClaim": (("spec", "accessModes"), ("spec", "storageClassName")),
    "Job": (("spec", "template"), ("spec", "selector")),
    "Service": (("spec", "clusterIP"),),
}
HOOK = "helm.sh/hook"


def key(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


@dataclass(frozen=True)
class Upgrade:
    values: str
    before: Release
    after: Release

    def removed(self) -> set[str]:
        """Objects that the upgrade deletes."""
        return {key(one) for one in self.before.objects} - {key(one) for one in self.after.objects}

    def refused(self) -> list[str]:
        """Fields that cannot be changed and are. Hooks are made anew each time."""
        now = {key(one): one for one in self.after.objects}
        return [
            f"{key(one)}: {'.'.join(path)}"
            for one in self.before.objects
            if HOOK not in one["metadata"].get("annotations", {})
            for path in FIXED.get(one["kind"], ())
            if key(one) in now and at(one, path) != at(now[key(one)], path)
        ]

    def diff(self) -> Iterator[str]:
        before, after = (
            yaml.safe_dump_all(sorted(of.objects, key=key), sort_keys=False).splitlines()
            for of in (self.before, self.after)
        )
        names = (f"{BEFORE.stem} {self.values}", f"now {self.values}")
        return difflib.unified_diff(before, after, *names, lineterm="", n=2)


def at(one: Object, path: tuple[str, ...]) -> Any:
    for name in path:
        one = one.get(name, {})
    return one


@contextmanager
def upgrades() -> Generator[list[Upgrade]]:
    """With the values of the version before, which whoever upgrades has."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(BEFORE) as archive:
        archive.extractall(folder, filter="data")
        chart = Path(folder) / "meteor"
        made = []
        for name in VALUES:
            values = yaml.safe_load((chart / f"values-{name}.yaml").read_text())
            made.append(Upgrade(name, release(values, chart), release(values, upgrade=True)))
        yield made


if __name__ == "__main__":
    with upgrades() as made:
        for one in made:
            print("\n".join(one.diff()))  # noqa: T201
