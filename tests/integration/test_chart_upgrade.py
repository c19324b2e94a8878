"""An upgrade from the chart's version before: nothing that Kubernetes refuses, nothing removed in silence."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.release import MISSING, VALUES, Release, at, given, merged, release, tools
from tests.chart.upgrade import BEFORE, Upgrade, upgrades
from tests.variables import CHART

pytestmark = pytest.mark.skipif(tools() is None, reason=MISSING)
# What this version removes on purpose: a job that fetched models is replaced by one under another name.
REMOVED = re.compile(r"Job/meteor-models-\w+")


@pytest.fixture(scope="module")
def made() -> Iterator[list[Upgrade]]:
    with upgrades() as made:
        yield made


def test_the_version_before_is_older():
    now = next(
        line.split()[1] for line in (CHART / "Chart.yaml").read_text().splitlines() if line.startswith("version:")
    )
    before = BEFORE.stem.removeprefix("meteor-")
    assert tuple(map(int, before.split("."))) < tuple(map(int, now.split(".")))


def test_its_values_are_taken_and_nothing_is_refused(made: list[Upgrade]):
    for one in made:
        assert one.refused() == [], one.values
        assert [name for name in one.removed() if not REMOVED.fullmatch(name)] == [], one.values


def test_the_difference_is_of_this_version(made: list[Upgrade]):
    lines = [line for one in made for line in one.diff()]
    assert any(line.startswith("-") and BEFORE.stem in line for line in lines)


def test_what_cannot_be_changed_is_seen(made: list[Upgrade]):
    """Another name of the chart changes every selector."""
    renamed = release(merged(given("minimal"), at("nameOverride", "other")))
    other = Upgrade("minimal", made[0].before, renamed)
    assert other.removed()
    same_names = Release([{**one, "metadata": before["metadata"]} for one, before in zip(renamed.of("Deployment"), made[0].before.of("Deployment"), strict=True)])  # fmt: skip
    assert len(Upgrade("minimal", made[0].before, same_names).refused()) == len(made[0].before.of("Deployment"))


def test_a_new_version_alone_restarts_nothing(tmp_path: Path):
    """Pods carry no version of the chart, and jobs that cannot be changed keep their name."""
    chart = tmp_path / "meteor"
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    about.write_text(re.sub(r"(?m)^version: .*", "version: 9.9.9", about.read_text()))
    for values in VALUES:
        bumped = Upgrade(values, release(given(values)), release(given(values), chart))
        assert bumped.refused() == []
        assert bumped.removed() == set()
        pods = [{name: pod["spec"] | pod["metadata"] for name, pod in of.pods() if name != "meteor-test"} for of in (bumped.before, bumped.after)]  # fmt: skip
        assert pods[0] == pods[1]
