"""The examples of openapi.json are what the API answers: they are sent again and must come out in the same form."""

import json
from pathlib import Path
from typing import Any

from tests.contract.conftest import BASE, running_api
from tests.examples import RECORDED, record
from tests.fakes.vllm import FakeVllm


def form(value: Any) -> Any:
    """Names and kinds of values, without the values; of a list the first item's."""
    if isinstance(value, dict):
        return {name: form(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [form(inner) for inner in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_recorded_examples_come_out_again(tmp_path: Path, engine: FakeVllm):
    kept = json.loads(RECORDED.read_text())
    assert BASE in json.dumps(kept)
    with running_api(tmp_path, METEOR_API_ENGINE_URL=engine.url) as api:
        now = record(api.url)
    assert set(now["calls"]) == set(kept["calls"])
    assert len(now["calls"]) > 20
    for part in ("calls", "errors"):
        for name in kept[part]:
            assert form(now[part][name]) == form(kept[part][name]), f"{name}: python -m tests.examples records anew"
