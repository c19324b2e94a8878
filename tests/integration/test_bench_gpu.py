"""`make bench-gpu` in its reduced form, so that it still runs when a GPU is there."""

import pytest

from tests.bench import gpu

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_part_gives_its_figures_with_a_tiny_model():
    lines = list(gpu.run(gpu.TINY, 600))
    assert not [line for line in lines if "failed" in line]
    parts = ["sft", "dpo", "search", "search", "padding", "engine", "engine settings"]
    assert [line["benchmark"] for line in lines] == parts
    rates = [value for line in lines for name, value in line.items() if name.startswith("tokens_per_second")]
    assert len(rates) == 4
    assert all(rate > 0 for rate in rates)


def test_without_time_nothing_is_begun_and_each_part_says_so():
    lines = list(gpu.run(gpu.TINY, -1))
    assert {line["benchmark"] for line in lines} == {"training", "search", "padding", "engine", "engine settings"}
    assert all("not_run" in line for line in lines)
