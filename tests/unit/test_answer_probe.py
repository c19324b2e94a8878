"""The fixed prompt: what counts as the same answer, and what becomes of another one."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.weak_model.engine.answer_probe import Answer, AnswerProbe, Outcome, Token, differs
from services.weak_model.engine.sleep import SleepControl
from tests.fakes.on_a_thread import on_a_thread
from tests.fakes.sleeping_engine import make_app


def answer(*tokens: tuple[str, float], **others: float) -> tuple[Token, ...]:
    return tuple(Token(text, value, {text: value, **others}) for text, value in tokens)


KEPT = answer(("a", -0.1), ("b", -0.2))


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        (answer(("a", -0.1), ("b", -0.2)), None),
        (answer(("a", -0.3), ("b", -0.2)), None),  # rounding
        (answer(("a", -0.1), ("c", -0.7), b=-0.8), None),  # a tie
        (answer(("c", -0.7), ("d", -3.0), a=-0.75), None),  # what follows a tie is another text
        (answer(("a", -0.1), ("c", -0.1), b=-2.0), "token 2 is c, not b"),
        (answer(("c", -0.1), ("b", -0.2)), "token 1 is c, not a"),
        (answer(("a", -5.0), ("b", -0.2)), "token 1 has a log-probability of -5.00, not -0.10"),
        (answer(("a", float("nan")), ("b", -0.2)), "token 1 has a log-probability of nan, not -0.10"),
        (answer(("a", -0.1)), "1 tokens instead of 2"),
        ((), "0 tokens instead of 2"),
    ],
)
def test_rounding_is_allowed_and_nothing_else(given: tuple[Token, ...], difference: str | None):
    assert differs(KEPT, given) == difference


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[AnswerProbe]:
    with on_a_thread(make_app(tmp_path, "base")) as url:
        yield AnswerProbe(url, "")


def looked(probe: AnswerProbe) -> str | None:
    """What the look that begins now sees. No other one is under way afterwards."""
    assert probe.look("base") is None
    assert probe._looking is not None
    probe._looking.join(30)
    return probe._seen


def test_the_first_answer_is_kept_and_each_later_one_compared(probe: AnswerProbe, tmp_path: Path):
    assert probe.started("base") is None
    assert probe.woke("base") is None
    (tmp_path / "spoiled").touch()
    assert "base does not answer the fixed prompt as at first: token 1 is" in (probe.woke("base") or "")
    (tmp_path / "spoiled").unlink()
    assert probe.started("base") is None
    assert probe.outcomes == {
        Outcome.RECORDED: 1, Outcome.SAME: 2, Outcome.DIFFERENT: 1, Outcome.REPLACED: 0, Outcome.UNANSWERED: 0
    }  # fmt: skip


def test_another_answer_that_stays_after_a_restart_is_taken(probe: AnswerProbe, tmp_path: Path):
    """Else an answer that was spoiled when it was kept, or files that were changed, would restart the engine for ever."""
    assert probe.started("base") is None
    (tmp_path / "spoiled").touch()
    assert probe.started("base")
    assert probe.started("base") is None
    assert probe.started("base") is None
    assert (probe.outcomes[Outcome.REPLACED], probe.outcomes[Outcome.SAME]) == (1, 1)


def test_adapters_are_asked_about_once_after_each_load_and_the_base_with_them(probe: AnswerProbe, tmp_path: Path):
    probe.started("base")
    asked = tmp_path / "asked"
    asked.write_text("")
    assert looked(probe) is None
    assert asked.read_text() == ""
    (tmp_path / "adapters").write_text("one\n")
    assert looked(probe) is None
    assert asked.read_text().split() == ["base", "one"]
    assert looked(probe) is None
    (tmp_path / "adapters").write_text("one\ntwo\n")
    (tmp_path / "spoiled").touch()
    assert "base does not answer" in (looked(probe) or "")
    assert asked.read_text().split()[2:] == ["base", "one", "two"]
    assert probe.outcomes[Outcome.DIFFERENT] == 2
    assert probe.look("base") == probe._seen
    (tmp_path / "spoiled").unlink()
    assert probe.started("base") is None  # of the restart
    assert "two does not answer" in (looked(probe) or "")  # its first answer was a spoiled one


def test_numbers_that_are_no_longer_finite_are_a_difference_each_time(probe: AnswerProbe, tmp_path: Path):
    assert probe.started("base") is None
    (tmp_path / "infinite").touch()
    for _ in range(3):
        assert "it computes no finite numbers" in (probe.started("base") or "")
    (tmp_path / "infinite").unlink()
    assert probe.started("base") is None


def test_a_model_without_finite_numbers_is_left_to_the_checks_of_jobs(probe: AnswerProbe, tmp_path: Path):
    (tmp_path / "infinite").touch()
    assert probe.started("base") is None
    assert (probe.outcomes[Outcome.UNANSWERED], probe.outcomes[Outcome.RECORDED]) == (1, 0)


def test_an_engine_that_does_not_answer_is_no_corrupted_one_but_after_waking():
    probe = AnswerProbe("http://127.0.0.1:1", "")
    assert probe.started("base") is None
    assert probe.woke("base") == "it does not answer after waking"
    assert probe.outcomes[Outcome.UNANSWERED] == 2


def test_a_sleeping_engine_is_asked_by_the_check_after_waking_alone(tmp_path: Path):
    with on_a_thread(make_app(tmp_path, "base")) as url:
        probe, sleep = AnswerProbe(url, ""), SleepControl(url, "")
        assert probe.started("base") is None
        sleep.look()
        assert sleep.sleep()
        before, asked = dict(probe.outcomes), (tmp_path / "asked").read_text()
        assert probe._check("base", ["base"]) is None  # what a look does
        assert (probe.outcomes, (tmp_path / "asked").read_text()) == (before, asked)
        sleep.wake()
        assert probe.woke("base") is None
        assert probe.outcomes[Outcome.SAME] == 1


def test_a_look_ends_before_the_engine_falls_asleep(
    probe: AnswerProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    probe.started("base")
    (tmp_path / "adapters").write_text("one\ntwo\n")
    begun, go, ask = threading.Event(), threading.Event(), probe.ask

    def slow(name: str, headers: dict[str, str] | None = None) -> Answer | None:
        begun.set()
        assert go.wait(10)
        return ask(name, headers)

    monkeypatch.setattr(probe, "ask", slow)
    assert probe.look("base") is None
    assert begun.wait(10)
    threading.Timer(0.1, go.set).start()
    assert probe.rest() is None
    assert (tmp_path / "asked").read_text().split() == ["base", "base"]  # the start, and the answer that was under way
    assert probe.look("base") is None
    assert probe._looking is not None
    assert not probe._looking.is_alive()
    assert probe.woke("base") is None
    assert (tmp_path / "asked").read_text().split()[2:] == ["base", "one", "two"]
    assert looked(probe) is None


def test_a_difference_that_a_look_saw_is_told_before_the_engine_falls_asleep(probe: AnswerProbe, tmp_path: Path):
    """Else the same answer after waking would be taken for that of a restarted engine."""
    probe.started("base")
    (tmp_path / "adapters").write_text("one\n")
    (tmp_path / "spoiled").touch()
    probe.look("base")
    assert probe._looking is not None
    probe._looking.join(30)
    assert "base does not answer" in (probe.rest() or "")


def test_an_adapter_that_does_not_answer_after_waking_is_no_failure(
    probe: AnswerProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It may be gone by then."""
    probe.started("base")
    (tmp_path / "adapters").write_text("one\n")
    assert looked(probe) is None
    ask = probe.ask
    monkeypatch.setattr(probe, "ask", lambda name, headers=None: None if name == "one" else ask(name, headers))
    assert probe.woke("base") is None
    assert probe.outcomes[Outcome.UNANSWERED] == 1
    monkeypatch.setattr(probe, "ask", lambda name, headers=None: None)
    assert probe.woke("base") == "it does not answer after waking"
