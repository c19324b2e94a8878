"""The plain parts of the drill on three hosts: its schedule, and that its own checks notice what they are there for."""

import os
from collections import Counter

import pytest

from tests.chaos.outcome import Outcome
from tests.chaos.schedule import Target
from tests.hosts import __main__, network
from tests.hosts.checks import UNAVAILABLE_S, ended, figures, paid, served
from tests.hosts.drill import Drill
from tests.hosts.fleet import HOSTS, Struck
from tests.hosts.strikes import LEASE_S, Deed, HostStrike, host_schedule


def test_the_schedule_follows_from_the_seed_and_leaves_no_host_out():
    strikes = host_schedule(7, 50, HOSTS)
    assert strikes == host_schedule(7, 50, HOSTS)
    assert strikes != host_schedule(8, 50, HOSTS)
    for deed, count in ((Deed.CUT, 15), (Deed.POWER, 5), (Deed.PROCESS, 30)):
        hosts = Counter(strike.host for strike in strikes if strike.deed is deed)
        assert hosts.total() == count
        assert hosts.keys() == set(HOSTS)
    assert min(strike.cut_s for strike in strikes if strike.deed is Deed.CUT) > LEASE_S
    on_ray = host_schedule(7, 50, HOSTS, ray=True)
    assert Target.TRAINING in {strike.process.target for strike in strikes if strike.process is not None}
    assert Target.TRAINING not in {strike.process.target for strike in on_ray if strike.process is not None}
    assert {strike.process.deed for strike in strikes if strike.process is not None} == {"killed", "frozen"}


def a_drill() -> Drill:
    job = {"id": "j", "suffix": "a", "status": "succeeded", "error": None, "lease_owner": None}
    drill = Drill(disturbed=[Outcome(job, {}, {}, [], [])], posted=1, listed=1, answers={"m": list(HOSTS)})
    drill.log = [{"request_id": "c1", "model": "m", "messages": ["q"], "fault": None}]
    drill.ledger = [{"id": "c1", "state": "settled", "outcome": "ok", "cached": False}]
    return drill


def test_nothing_is_wrong_where_nothing_is():
    drill = a_drill()
    assert ended(drill) + paid(drill) + served(drill) == []
    assert figures(drill, 0, 7, 1.0)["wrong"] == []


def test_what_is_lost_is_noticed():
    drill = a_drill()
    drill.listed, drill.disturbed[0].job["status"] = 2, "failed"
    assert len(ended(drill)) == 2


def test_what_is_paid_twice_is_noticed_unless_its_answer_may_have_been_lost():
    drill = a_drill()
    drill.log.append({**drill.log[0], "request_id": "c2"})
    drill.ledger.append({**drill.ledger[0], "id": "c2"})
    assert len(paid(drill)) == 1
    drill.struck = [Struck(HostStrike("host-a", Deed.CUT, 0.0, 7.0), 1.0, in_flight=1)]
    assert paid(drill) == []


def test_a_version_that_is_away_for_too_long_is_noticed():
    drill = a_drill()
    drill.availability.waits, drill.answers["m"] = [0.1, UNAVAILABLE_S + 1], ["host-a"]
    assert len(served(drill)) == 3


def test_without_root_it_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(network.shutil, "which", lambda tool: tool)
    monkeypatch.setattr("sys.argv", ["tests.hosts"])
    assert __main__.main() == 2
    assert "only root may create network namespaces" in capsys.readouterr().err
