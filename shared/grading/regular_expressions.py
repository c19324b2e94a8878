"""Grading regular expressions by the language they describe."""

import re

import interegular
from interegular.fsm import FSM
from interegular.patterns import InvalidSyntax, Unsupported

from shared.contracts.grader_kinds import RegexEqualGrader
from shared.grading.attempt import Stopped
from shared.grading.deep_regex import TooLarge, same_language

_DELIMITED = re.compile(r"\A(?:r?(?P<quote>['\"`]{1,3})(?P<quoted>.+?)(?P=quote)|/(?P<slashed>.+)/)\Z", re.DOTALL)


def score(spec: RegexEqualGrader, answer: str, reference: str) -> float:
    """1 where both match the same texts. Raises ValueError for a reference that is no regular expression.

    Backreferences and lookarounds describe no regular language; an answer that has them is wrong. Raises Stopped for an answer whose
    automaton is too large.
    """
    answer, reference = written(answer), written(reference)
    if spec.syntax == "deep_regex":
        same_language(reference, reference)
        try:
            return float(same_language(answer, reference))
        except TooLarge as error:
            raise Stopped(str(error)) from None
        except ValueError:
            return 0.0
    expected = automaton(reference)
    try:
        return float(automaton(answer).equivalent(expected))
    except ValueError:
        return 0.0


def written(text: str) -> str:
    """The expression without quotes, backticks or slashes around it."""
    text = text.strip()
    around = _DELIMITED.match(text)
    return (around["quoted"] or around["slashed"]) if around else text


def automaton(pattern: str) -> FSM:
    """Raises ValueError for what is no regular expression, or describes no regular language."""
    try:
        re.compile(pattern)
        return interegular.parse_pattern(pattern).to_fsm()
    except (re.error, InvalidSyntax, Unsupported, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from None
