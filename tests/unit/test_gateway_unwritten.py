"""Answers that were paid for and cannot be written: the disk under the ledger is full. The gateway keeps them, joins equal requests
to them and sends nothing else meanwhile. Before a real provider over HTTP; only the ledger's disk is ours."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from services.strong_model.gateway.app import open_gateway
from services.strong_model.gateway.call import Answer, Ticket
from services.strong_model.gateway.chain import Gateway
from services.strong_model.gateway.providers import JudgeProviderSettings, TeacherSettings, providers
from services.strong_model.settings import strong_settings
from shared.ledger.store import CallOrigin, Ledger
from shared.platform.settings import platform_settings
from tests.fakes.gateway import ask
from tests.fakes.ports import wait_until
from tests.fakes.start import start_teacher

ORIGIN = CallOrigin("p", "job-1", "step-1")


class FullDisk(Exception):
    pass


class Disk:
    """`full`: what settles a call meets a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.full, self.refused, settle = False, 0, Ledger.settle

        def settled(ledger: Ledger, *args, **more) -> None:
            if self.full:
                self.refused += 1
                raise OperationalError("INSERT", {}, FullDisk("database or disk is full"))
            settle(ledger, *args, **more)

        monkeypatch.setattr(Ledger, "settle", settled)


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_DATA", str(tmp_path))
    for settings in (platform_settings, strong_settings):
        settings.cache_clear()
    yield
    for settings in (platform_settings, strong_settings):
        settings.cache_clear()


def opened(gateway: Gateway, number: object) -> Ticket:
    body = {"model": "fake", "messages": ask(number), "max_tokens": 50}
    return gateway.calls.open(gateway.providers["default"], body, ORIGIN, None, stream=False)


async def answer(ticket: Ticket) -> Answer:
    async with asyncio.timeout(60):
        return await asyncio.shield(ticket.call.task)


async def test_a_paid_answer_waits_for_room_on_the_disk_and_is_not_paid_for_again(own_settings, monkeypatch):
    disk = Disk(monkeypatch)
    with start_teacher() as teacher:
        given = providers(TeacherSettings(base_url=teacher.base_url, model="fake"), JudgeProviderSettings())
        async with open_gateway(given) as gateway:
            disk.full = True
            first = opened(gateway, "paid")
            await asyncio.to_thread(wait_until, lambda: disk.refused >= 2)
            first.leave()  # its step fails, for the full disk, and is tried again
            again, other = opened(gateway, "paid"), opened(gateway, "another")
            assert not again.first
            await gateway.calls.cancel("step-1", None)
            await asyncio.sleep(0.3)
            later = opened(gateway, "paid")
            assert not later.first
            assert len(teacher.log()) == 1
            disk.full = False
            assert (await answer(later)).body["choices"]
            assert (await answer(opened(gateway, "paid"))).cached
            assert other.call.stopped.is_set()
            await answer(opened(gateway, "another"))
            assert len(teacher.log()) == 2
