"""Graders against a reference: pure functions from (answer, reference) to a score in [0, 1].

chrF and ROUGE-L are the published metrics by their maintained packages, on the texts as they are; the graders that look
for equal parts clean the texts first.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from rapidfuzz.distance import LCSseq

from shared.contracts.grader_kinds import Grader

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

# Scripts written without spaces are taken character by character; everywhere else a word is a run of letters and digits.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_TICKS = re.compile(r"\A(`+)([^`]+)\1\Z")
_FINAL_PERIOD = re.compile(r"(?<=[\w`)\]'\"])\.\Z")  # "find ." ends in an argument, not in a period
_FLAG = re.compile(r"(?<!\S)--?[A-Za-z0-9][\w-]*", re.ASCII)
_LETTER = rf"[^\W_{_UNSPACED}]"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_QUOTES = str.maketrans('"\u2018\u2019\u201c\u201d', "'" * 5)


def words(text: str) -> list[str]:
    """Case-folded words. For ASCII text these are the tokens of the original ROUGE; other alphabets keep theirs."""
    return _WORD.findall(text.casefold())


@lru_cache
def _chrf() -> "CHRF":
    """Imported on use: most processes compute no chrF, and the import takes two fifths of the start of a grader's process."""
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def clean(text: str) -> str:
    """Without a fence or backticks around all of it and a final period; one kind of quotes, single spaces."""
    text = _FINAL_PERIOD.sub("", text.strip())
    for around, inside in ((_FENCE, 1), (_TICKS, 2)):
        if wrapped := around.match(text):
            text = wrapped.group(inside).strip()
    return " ".join(_FINAL_PERIOD.sub("", text).translate(_QUOTES).split())


def first_word(text: str) -> str | None:
    """The first word after cleaning; `sudo` before a command says nothing about which command it is."""
    parts = clean(text).split()
    if parts[:1] == ["sudo"]:
        parts = parts[1:]
    return parts[0] if parts else None


def string_check(answer: str, reference: str) -> float:
    return float(bool(clean(reference)) and clean(answer) == clean(reference))  # an empty answer is never right


def first_token(answer: str, reference: str) -> float:
    word = first_word(answer)
    return float(word is not None and word == first_word(reference))


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004).

    The subsequence by rapidfuzz: the package rouge-score gives the same figures (a test holds them together) but brings
    nltk and scipy, 100 MB in every worker.
    """
    given, expected = words(answer), words(reference)
    common = LCSseq.similarity(given, expected)
    return 2 * common / (len(given) + len(expected)) if common else 0.0


def chrf(answer: str, reference: str) -> float:
    """Character n-gram F-score, n to 6, beta 2 (Popovic 2015), on [0, 1]."""
    return _chrf().sentence_score(answer, [reference]).score / 100


def flags(answer: str, reference: str) -> float:
    """F1 over the option flags of two commands, as multisets; 1 when neither has any, 0 for an empty answer.

    Says nothing of the command itself, so it is read beside `first_token`.
    """
    if not answer.strip():
        return 0.0
    given, expected = option_flags(answer), option_flags(reference)
    if not given and not expected:
        return 1.0
    common = (given & expected).total()
    return 2 * common / (given.total() + expected.total())


def option_flags(command: str) -> Counter[str]:
    """The words that begin with - or --, up to the first sign that no flag's name has: `--color=auto` is `--color`,
    `-k2,2` is `-k2`.

    A cluster is one flag, since nothing but each command's manual tells `-lah` of ls from `-name` of find; but the order
    of its letters does not count: `-la` is `-al`.
    """
    named = _FLAG.findall(clean(command))
    return Counter("-" + "".join(sorted(flag[1:])) if flag[1:].isalpha() else flag for flag in named)


def contains(answer: str, reference: str) -> float:
    """1 when the reference stands in the answer as whole words, case apart; 12 is not in 112, 1.12, 12.5 or -12."""
    given, expected = (_THOUSANDS.sub("", clean(text).casefold()) for text in (answer, reference))
    if not expected:
        return 0.0
    before = rf"(?<!{_LETTER})" + (r"(?<!-)(?<!\d\.)" if expected[0].isdigit() else "")
    after = rf"(?!{_LETTER})" + (r"(?!\.\d)" if expected[-1].isdigit() else "")
    return float(re.search(before + re.escape(expected) + after, given) is not None)


GRADERS = {
    Grader.STRING_CHECK: string_check,
    Grader.FIRST_TOKEN: first_token,
    Grader.ROUGE_L: rouge_l,
    Grader.CHRF: chrf,
    Grader.FLAGS: flags,
    Grader.CONTAINS: contains,
}


def score(grader: Grader, answer: str, reference: str) -> float:
    return GRADERS[grader](answer, reference)


def all_scores(answer: str, reference: str) -> dict[str, float]:
    """Every grader's score by its name."""
    return {grader.value: score(grader, answer, reference) for grader in Grader}
