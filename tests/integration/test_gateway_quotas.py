"""Limits of a provider: they cost time and no attempts, all calls of the provider wait together, and a long pause is a rest."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contracts.errors import ProviderPaused
from tests.fakes.gateway import Gateway, ask, one, running_gateway
from tests.fakes.quotas import WAYS, Quota, refusal, serving
from tests.fakes.start import start_teacher

ROWS = 40
PATIENCE = {"METEOR_STRONG_DEADLINE": "PT60S", "METEOR_STRONG_CONCURRENCY": "16", "METEOR_STRONG_ATTEMPTS": "2"}
DAY = refusal("Rate limit reached on tokens per day (TPD): Limit 100000. Please try again in 2h9m38s.")


@pytest.fixture(scope="module")
def quotas() -> dict[str, Quota]:
    ways = {name: Quota(say) for name, say in WAYS.items()}
    return ways | {"day": Quota(DAY, room=3, window_s=8000), "never": Quota(WAYS["header"], room=0, window_s=0.3)}


@pytest.fixture(scope="module")
def gateway(quotas: dict[str, Quota], tmp_path_factory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("quotas")
    with serving(quotas) as urls, start_teacher() as teacher:
        entries = {name: {"base_url": url, "model": "m"} for name, url in urls.items()}
        (folder / "providers.json").write_text(json.dumps({"providers": entries}))
        more = PATIENCE | {"METEOR_PROVIDERS_FILE": str(folder / "providers.json")}
        with running_gateway(teacher, folder, **more) as started:
            yield started


async def ask_all(gateway: Gateway, name: str, rows: int = ROWS) -> list:
    calls = (one(gateway, ask(f"{name} {n}"), model=name) for n in range(rows))
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("way", WAYS)
async def test_every_row_is_answered_and_few_are_refused(gateway: Gateway, quotas: dict[str, Quota], way: str):
    """Five windows' worth at once, and two attempts a request: refusals are no attempts."""
    replies = await ask_all(gateway, way)
    assert [reply for reply in replies if isinstance(reply, BaseException)] == []
    assert quotas[way].answered == ROWS
    assert quotas[way].refused <= 2 * ROWS


async def test_a_day_s_quota_ends_calls_at_once_and_says_until_when(gateway: Gateway, quotas: dict[str, Quota]):
    began = time.monotonic()
    replies = await ask_all(gateway, "day")
    assert time.monotonic() - began < 20
    paused = [reply for reply in replies if isinstance(reply, ProviderPaused)]
    assert len(paused) == ROWS - 3
    assert paused[0].again_in_s == pytest.approx(2 * 3600 + 9 * 60 + 38, abs=60)
    assert "until 20" in paused[0].message
    assert "tokens per day" in paused[0].message
    assert quotas["day"].refused <= 16, "one burst, then nothing is sent"


async def test_a_limit_that_never_ends_becomes_a_rest_and_no_failure(
    quotas: dict[str, Quota], gateway: Gateway, tmp_path: Path
):
    entry = {"base_url": gateway.teacher.base_url, "model": "m"}
    with serving({"never": quotas["never"]}) as urls:
        (tmp_path / "providers.json").write_text(
            json.dumps({"providers": {"never": entry | {"base_url": urls["never"]}}})
        )
        more = {"METEOR_PROVIDERS_FILE": str(tmp_path / "providers.json"), "METEOR_STRONG_DEADLINE": "PT2S"}
        with running_gateway(gateway.teacher, tmp_path, **more) as short, pytest.raises(ProviderPaused):
            await one(short, ask("never"), model="never")
    assert quotas["never"].refused > 3


async def test_two_servers_with_the_same_model_do_not_share_answers(gateway: Gateway, quotas: dict[str, Quota]):
    first = await one(gateway, ask("whose"), model="header")
    other = await one(gateway, ask("whose"), model="words")
    again = await one(gateway, ask("whose"), model="header")
    assert (first.cached, other.cached, again.cached) == (False, False, True)
    assert again.call_id == first.call_id != other.call_id
