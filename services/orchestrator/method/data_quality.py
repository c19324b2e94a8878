"""What a job's rows are worth: how many have no reference, and which contradict one another."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from shared.contracts.data import Question, Split
from shared.contracts.report import DataQuality, UsedFile

SHOWN = 3


def data_quality(splits: Mapping[Split, Sequence[Question]], files: Sequence[UsedFile]) -> DataQuality:
    conflicts = conflicting([*splits.values()])
    bare = {split.value: sum(not row.reference for row in rows) for split, rows in splits.items()}
    return DataQuality(
        without_reference=bare,
        conflicting_references=len(conflicts),
        conflicting_ids=conflicts[:SHOWN],
        files=[*files],
    )


def conflicting(splits: Sequence[Sequence[Question]]) -> list[list[str]]:
    """Ids of rows that ask the same in the same words and have different references, group by group. Reads the rows once for their
    hashes, and once more where there are such groups; what is kept of a row is a number."""

    def told() -> Iterator[tuple[int, Question]]:
        for row in chain.from_iterable(splits):
            if row.reference:
                yield _number(row.text.casefold()), row

    first: dict[int, int] = {}
    several = {key for key, row in told() if first.setdefault(key, (said := _number(row.reference or ""))) != said}
    groups: dict[int, list[str]] = {}
    if several:
        for key, row in told():
            if key in several:
                groups.setdefault(key, []).append(row.id)
    return list(groups.values())


def _number(text: str) -> int:
    """Of its words, in 64 bits."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest())
