"""A fixed prompt that detects silent corruption: an engine that runs and answers, but computes wrong results.

The model's greedy answer of a few tokens is kept when it is first served; later answers must be the same. Adapters that vLLM loads on request are
found in its list of models. Small differences from other batches are allowed: a slightly different log-probability, or another token if two
are about equally likely.
"""

import secrets
import threading
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import httpx

from shared.platform.http_client import internal_sync_client
from shared.platform.log import get_logger

log = get_logger(__name__)
PROMPT = "The quick brown fox jumps over the lazy dog. One, two, three, four, five,"
TOKENS = 8
TOLERANCE = 0.5  # nats a token; other batches and kernels differ by up to 0.1 in 16 bits
TIE = 0.25  # nats between two tokens of which either may be chosen
MOST_ADAPTERS = 4  # asked after waking, the newest
ANSWER_S, LIST_S = 60.0, 5.0
OF_PROBE = {"x-meteor-probe": "1"}  # passes the guard after waking (services/weak_model/sleep_guard.py)
NOT_FINITE = "not JSON compliant"  # how vLLM refuses to send infinities and what is no number


class Outcome(StrEnum):
    """recorded: first answer.  same, different: compared with it.  replaced: different, and the same again after a restart.
    unanswered: the engine gave no answer."""

    RECORDED = "recorded"
    SAME = "same"
    DIFFERENT = "different"
    REPLACED = "replaced"
    UNANSWERED = "unanswered"


class Token(NamedTuple):
    """likely: log-probabilities of the most likely tokens at this place."""

    text: str
    logprob: float
    likely: dict[str, float]


Answer = tuple[Token, ...]  # empty: the engine computed no finite numbers


class Compared(NamedTuple):
    """difference: from the kept answer, if there is one."""

    answered: bool
    difference: str | None = None


class Asleep(Exception):
    """The server is asleep, or falls asleep, and refuses the question."""


class AnswerProbe:
    """Of one engine, over the restarts of its server. served: base that the server was started with."""

    def __init__(self, url: str, token: str):
        self._http = internal_sync_client(url, token, timeout_s=LIST_S)
        self._kept: dict[tuple[str, str], Answer] = {}
        self._suspect: dict[tuple[str, str], Answer] = {}
        self._loaded: tuple[str, ...] = ()
        self._looking: threading.Thread | None = None
        self._resting = threading.Event()
        self._lock = threading.Lock()  # answers are compared in the look's thread too
        self._servers = 0
        self._seen: str | None = None
        self.outcomes = dict.fromkeys(Outcome, 0)

    def started(self, served: str) -> str | None:
        """Of a new server. Returns how it differs from before, if it does."""
        self._servers, self._loaded, self._seen = self._servers + 1, (), None
        self._resting.clear()
        return self._check(served, [served])

    def woke(self, served: str) -> str | None:
        """The base and its adapters. Returns how the first one differs; also that the base does not answer."""
        base = self._compare(served, served, OF_PROBE)
        if not base.answered:
            return "it does not answer after waking"
        adapters = [self._compare(served, name, OF_PROBE) for name in self._loaded[-MOST_ADAPTERS:]]
        self._resting.clear()
        return next((compared.difference for compared in (base, *adapters) if compared.difference), None)

    def rest(self) -> str | None:
        """Before the server falls asleep: wait for the answer that a look expects, and begin no look until woke() or started(). Returns the
        difference that the look saw."""
        self._resting.set()
        if self._looking is not None:
            self._looking.join(ANSWER_S + LIST_S)
        return self._seen

    def look(self, served: str) -> str | None:
        """Ask about adapters that were loaded since the last look, in a thread: a busy engine must not delay its supervisor. Returns the
        difference that an earlier look saw."""
        if self._looking is None or not self._looking.is_alive():
            if self._seen is not None or self._resting.is_set():
                return self._seen
            args = (served, self._servers)
            self._looking = threading.Thread(target=self._look, args=args, name="answer-probe", daemon=True)
            self._looking.start()
        return None

    def _look(self, served: str, server: int) -> None:
        """server: what is seen of an earlier one does not count."""
        listed = self._adapters()
        if listed is None or server != self._servers:
            return
        new = [name for name in listed if name not in self._loaded]
        before, self._loaded = self._loaded[-1:], tuple(listed)
        if new:  # the base and an older adapter too: a load may spoil what it does not concern
            seen = self._check(served, [served, *(name for name in before if name in listed), *new])
            self._seen = seen if server == self._servers else None

    def _check(self, served: str, names: Sequence[str]) -> str | None:
        first = None
        for name in names:
            if self._resting.is_set():
                break
            difference = self._compare(served, name).difference
            first = first or difference
        return first

    def _compare(self, served: str, name: str, headers: dict[str, str] | None = None) -> Compared:
        """headers: OF_PROBE after waking."""
        try:
            answer = self.ask(name, headers)
        except Asleep:
            return Compared(answered=False)
        with self._lock:
            return Compared(answer is not None, self._difference((served, name), answer))

    def _difference(self, key: tuple[str, str], answer: Answer | None) -> str | None:
        never_finite = answer == () and key not in self._kept  # the check of a job's adapter says so
        if answer is None or never_finite:
            self.outcomes[Outcome.UNANSWERED] += 1
            return None
        kept = self._kept.setdefault(key, answer)
        difference = "it computes no finite numbers" if not answer else differs(kept, answer)
        if difference is None:
            self._suspect.pop(key, None)
            self.outcomes[Outcome.RECORDED if kept is answer else Outcome.SAME] += 1
            return None
        suspect = self._suspect.pop(key, None)
        if answer and suspect and differs(suspect, answer) is None:
            log.error("the engine answers otherwise than at first, and the same after a restart; taken as its answer",
                      model=key[1], difference=difference)  # fmt: skip
            self._kept[key] = answer
            self.outcomes[Outcome.REPLACED] += 1
            return None
        self._suspect[key] = answer
        self.outcomes[Outcome.DIFFERENT] += 1
        return f"{key[1]} does not answer the fixed prompt as at first: {difference}"

    def ask(self, name: str, headers: dict[str, str] | None = None) -> Answer | None:
        """None: no answer. Raises Asleep where the guard refuses the question."""
        body = {
            "model": name, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True,
            "logprobs": 3, "return_tokens_as_token_ids": True,
            "cache_salt": secrets.token_hex(16),  # no keys and values of an earlier probe
        }  # fmt: skip
        try:
            answer = self._http.post("/v1/completions", json=body, headers=headers, timeout=ANSWER_S)
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and headers is None:
                raise Asleep
            if answer.is_error and NOT_FINITE in answer.text:
                return ()
            answer.raise_for_status()
            return tuple(_tokens(answer.json()["choices"][0]["logprobs"]))
        except (httpx.HTTPError, LookupError, ValueError, TypeError) as error:
            log.warning("the engine does not answer the fixed prompt", model=name, reason=repr(error))
            return None

    def _adapters(self) -> list[str] | None:
        """In the order of loading; None where the engine does not say."""
        try:
            answer = self._http.get("/v1/models")
            answer.raise_for_status()
            return [model["id"] for model in answer.json()["data"] if model.get("parent")]
        except (httpx.HTTPError, LookupError, ValueError, TypeError):
            return None


def _tokens(logprobs: dict[str, Any]) -> Iterator[Token]:
    for text, value, likely in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        yield Token(text, float(value), {token: float(its) for token, its in likely.items()})


def differs(kept: Answer, answer: Answer) -> str | None:
    """The first difference that rounding does not explain. After a tie that was decided otherwise, nothing can be compared."""
    if len(kept) != len(answer):
        return f"{len(answer)} tokens instead of {len(kept)}"
    for place, (old, new) in enumerate(zip(kept, answer, strict=True), 1):
        if old.text == new.text:
            if not abs(new.logprob - old.logprob) <= TOLERANCE:
                return f"token {place} has a log-probability of {new.logprob:.2f}, not {old.logprob:.2f}"
        elif new.logprob - new.likely.get(old.text, float("-inf")) <= TIE:
            return None
        else:
            return f"token {place} is {new.text}, not {old.text}"
    return None
