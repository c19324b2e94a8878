"""Graders against a reference: pure functions from (answer, reference) to a score in [0, 1].

The two similarities are the published metrics by their maintained packages, on the texts as they are; only the two
graders that ask for equality clean the texts first.
"""

import re

from rapidfuzz.distance import LCSseq
from sacrebleu.metrics.chrf import CHRF

from shared.contracts.jobs import Grader

# Scripts written without spaces are taken character by character; everywhere else a word is a run of letters and digits.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_TICKS = re.compile(r"\A(`+)([^`]+)\1\Z")
_FINAL_PERIOD = re.compile(r"(?<=[\w`)\]'\"])\.\Z")  # "find ." ends in an argument, not in a period
_QUOTES = str.maketrans(dict.fromkeys('"\u2018\u2019\u201c\u201d', "'"))


def words(text: str) -> list[str]:
    """Case-folded words. For ASCII text these are the tokens of the original ROUGE; other alphabets keep theirs."""
    return _WORD.findall(text.casefold())


_CHRF = CHRF()


def clean(text: str) -> str:
    """Without a fence or backticks around all of it and a final period; one kind of quotes, single spaces."""
    text = _FINAL_PERIOD.sub("", text.strip())
    for around, inside in ((_FENCE, 1), (_TICKS, 2)):
        found = around.match(text)
        if found:
            text = found.group(inside).strip()
    return " ".join(_FINAL_PERIOD.sub("", text).translate(_QUOTES).split())


def first_word(text: str) -> str | None:
    """The first word after cleaning; `sudo` before a command says nothing about which command it is."""
    found = clean(text).split()
    if found[:1] == ["sudo"]:
        found = found[1:]
    return found[0] if found else None


def string_check(answer: str, reference: str) -> float:
    return float(bool(clean(reference)) and clean(answer) == clean(reference))  # nothing is not a right answer


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
    return _CHRF.sentence_score(answer, [reference]).score / 100


GRADERS = {
    Grader.STRING_CHECK: string_check,
    Grader.FIRST_TOKEN: first_token,
    Grader.ROUGE_L: rouge_l,
    Grader.CHRF: chrf,
}


def score(grader: Grader, answer: str, reference: str) -> float:
    return GRADERS[grader](answer, reference)


def all_scores(answer: str, reference: str) -> dict[str, float]:
    """Every grader's score by its name."""
    return {grader.value: score(grader, answer, reference) for grader in Grader}
