"""The two parts of a dev split. A job with several rounds or turns chooses among them on one part and decides on the other: the best of
several students on some rows looks better on these rows than it is.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

CHOICE_SHARE = 1 / 3
CHOICE_LEAST, REST_LEAST = 15, 30  # questions; with fewer the split stays whole


class DevParts(NamedTuple):
    """Places of the questions, from 0, in their order. choice: on which rounds and turns are chosen. rest: on which phases and promotion
    are decided."""

    choice: list[int]
    rest: list[int]


def dev_parts(groups: Sequence[str]) -> DevParts | None:
    """The parts of measured dev questions; None where one would be too small. groups: one name per question.

    The hash of its group alone says where a question belongs, so it stays there in every job and every version of the file.
    """
    choice = [place for place, group in enumerate(groups) if _draw(group) < CHOICE_SHARE]
    inside = set(choice)
    rest = [place for place in range(len(groups)) if place not in inside]
    return DevParts(choice, rest) if len(choice) >= CHOICE_LEAST and len(rest) >= REST_LEAST else None


def undivided(n: int) -> str:
    """What it means that n measured questions of dev are too few for two parts."""
    return (
        f"dev's {n} measured questions are too few for two parts ({CHOICE_LEAST} or more to choose among rounds and {REST_LEAST} or more to "
        "decide): rounds are chosen on the questions that decide, which makes the best round look better there than it is, and the last turn "
        "is kept"
    )


def _draw(group: str) -> float:
    """A number in [0, 1), by itself from the one that gave the group its split."""
    return int.from_bytes(hashlib.sha256(f"part of dev:{group}".encode()).digest()[:8]) / 2**64
