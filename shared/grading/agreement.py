"""Which of several answers to a question are the same answer, by a grader's own equality and without a reference.

Votes of this kind choose among samples in self-consistency (Wang et al. 2022) and ScPO (Prasad et al. 2024, arXiv 2411.04109);
there the answers are strings, here equal results of queries, numbers, JSON values or regular languages are one answer.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from shared.contracts.grader_kinds import Grader, MultiGrader, VerifyingGrader
from shared.grading import equality
from shared.grading.bounded import BoundedEquality


class Group(NamedTuple):
    """members: places of the texts, in order; the first is one whose text most members share. share: of all votes, in (0, 1]."""

    members: tuple[int, ...]
    share: float


class Agreement(NamedTuple):
    """groups: largest first, of equal ones the one that stands first among the texts. unread: places of texts that say nothing to
    the grader (no number, a query that does not run) and so are in no group; they count among the votes."""

    groups: tuple[Group, ...]
    unread: tuple[int, ...]

    @property
    def margin(self) -> float:
        """Votes of the largest group less those of the smallest, as a share of all; 0 where there is one group or none."""
        return self.groups[0].share - self.groups[-1].share if self.groups else 0.0


@dataclass
class Voter:
    """Groups texts by one grader's equality. A grader that verifies reads and compares in a process of its own, started when it is
    needed; a text that is too slow or too large to read is unread, and a pair that is too slow to compare is not the same. Of
    a formula, texts are the same where all its parts that verify say so.

    files: uploaded files that the grader reads, by their ids.
    """

    grader: Grader | VerifyingGrader
    files: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._readers: list[equality.Equality | BoundedEquality] = [
            equality.of_text(part) if isinstance(part, equality.OF_TEXTS) else BoundedEquality(part, self.files)
            for part in _parts(self.grader)
        ]

    def __enter__(self) -> "Voter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for reader in self._readers:
            if isinstance(reader, BoundedEquality):
                reader.close()

    def agreement(self, texts: Sequence[str]) -> Agreement:
        """texts: the answers to one question, without their rationale. Each distinct text is read once, and compared with one text of
        each group where reading gives no key (numbers, JSON, regular expressions). Raises FatalError where a grader's process
        cannot be started."""
        votes = Counter(texts)
        distinct = [text for text, _ in votes.most_common()]  # the order decides where equality is not transitive
        labels = list(zip(*(_labels(reader, distinct) for reader in self._readers), strict=True))
        said = {text: label for text, label in zip(distinct, labels, strict=True) if None not in label}
        places: dict[Hashable, list[int]] = defaultdict(list)
        for place, text in enumerate(texts):
            if text in said:
                places[said[text]].append(place)
        groups = [
            Group(tuple(sorted(members, key=lambda place: (-votes[texts[place]], place))), len(members) / len(texts))
            for members in places.values()
        ]
        groups.sort(key=lambda group: (-len(group.members), min(group.members)))
        return Agreement(tuple(groups), tuple(place for place, text in enumerate(texts) if text not in said))


def _parts(grader: Grader | VerifyingGrader) -> Sequence[Grader | VerifyingGrader]:
    if not isinstance(grader, MultiGrader):
        return [grader]
    parts = list(grader.graders.values())
    return [part for part in parts if not isinstance(part, equality.OF_TEXTS)] or [Grader.STRING_CHECK]


def _labels(reader: "equality.Equality | BoundedEquality", texts: Sequence[str]) -> list[Hashable]:
    """For each text what is equal for equal answers; None for one that says nothing."""
    if isinstance(reader, equality.Equality):
        return [_key(reader, text) for text in texts]
    labels: list[Hashable] = []
    first: list[str] = []  # of each group
    for text in texts:
        given = reader.read(text)
        if given is None or given.key is not None:
            labels.append(given and given.key)
            continue
        same = next((place for place, other in enumerate(first) if reader.same(text, other)), None)
        if same is None:
            first.append(text)
        labels.append(len(first) - 1 if same is None else same)
    return labels


def _key(text_equality: equality.Equality, text: str) -> str | None:
    try:
        return text_equality.read(text)
    except ValueError:
        return None
