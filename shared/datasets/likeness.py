"""What rows of a dataset can have in common: the keys by which twins of a question find each other. Pure functions."""

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.data import Question, group_key

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

SPOKEN = "The conversation so far:"  # begins the earlier turns in a context, in rows from before conversations were kept as messages
LEAST_PASSAGE = 80  # characters of a context that counts as a passage
LEAST_REFERENCE, LEAST_WORDS = 16, 3  # characters, or words, of a reference that says more than a label does
LEAST_NEAR = 12  # characters of a question that can have a near twin
PERMUTATIONS, BAND = 32, 4  # of a signature, and of each of its bands
GRAM = 3  # characters
MOST_LETTERS = 1 << 18  # whose runs are hashed at once
ASCII = bytes(ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else 32 for code in range(256))
BETWEEN = bytes(code for code in range(256) if ASCII[code] == 32)
ALL_BITS = (1 << 64) - 1
DIGITS = re.compile(r"\d+")


class Likeness(StrEnum):
    """Why two rows belong together. group: one given group, such as a conversation. question: the same words. asked: the same
    question under another context or system prompt. near: nearly the same question. reference, passage: the same one."""

    GROUP = "group"
    QUESTION = "question"
    ASKED = "asked"
    REFERENCE = "reference"
    PASSAGE = "passage"
    NEAR = "near"


WORDS = {
    Likeness.GROUP: "the group",
    Likeness.QUESTION: "the words of the question",
    Likeness.ASKED: "the question, under another context or system prompt",
    Likeness.REFERENCE: "the reference",
    Likeness.PASSAGE: "the passage",
    Likeness.NEAR: "nearly the question",
}


def likeness_words(linked: Mapping[str, int], left: Mapping[str, int]) -> list[str]:
    """For people: which rows stand together, and what the splits have in common all the same."""
    said = [f"{WORDS[Likeness(kind)]}: {count}" for kind, count in linked.items()]
    lines = [f"rows that stand on the side of others, since they share {'; '.join(said)}"] if said else []
    said = [f"{WORDS[Likeness(kind)]}: {count}" for kind, count in left.items()]
    if said:
        lines.append(
            f"rows of dev and test that share something with a row of another split all the same: {'; '.join(said)}"
        )
    return lines


class Keys(NamedTuple):
    """Equal keys of two rows are equal texts; 0: the row has none. near_text: what near twins are looked for by.

    group, question: the same in every process, for they are kept. reference, passage: of this process alone.
    """

    group: int
    question: int
    asked: int
    reference: int
    passage: int
    near_text: str


def keys_of(row: Question) -> Keys:
    alone = not row.context and row.messages is None
    words, key = fold(row.asked if alone else asked_of(row)), group_key(row)
    question = hashed((words if alone else fold(row.text)) or key)
    return Keys(
        hashed(key),
        question,
        0 if not words else question if alone else hashed(words),
        _reference(row.reference),
        0 if alone else _passage(row.context),
        words if len(words) >= LEAST_NEAR else "",
    )


def asked_of(row: Question) -> str:
    """The question with the turns before it, without passages and system prompts."""
    if row.messages is not None:
        return row.spoken
    _, spoken, turns = (row.context or "").partition(SPOKEN)
    return "\n\n".join(part for part in (row.title, row.question, spoken and turns) if part)


def _passage(context: str | None) -> int:
    words = fold((context or "").partition(SPOKEN)[0])
    return _key(words.encode()) if len(words) >= LEAST_PASSAGE else 0


def _reference(reference: str | None) -> int:
    if not reference:
        return 0
    if reference.isascii():  # the same letters as those of the words below, in a quarter of the time
        letters = reference.encode().translate(ASCII, BETWEEN)
        if len(letters) >= LEAST_REFERENCE:
            return _key(letters)
    words = fold(reference)
    says_much = len(words) >= LEAST_REFERENCE or words.count(" ") >= LEAST_WORDS - 1
    return _key(words.replace(" ", "").encode()) if says_much else 0


def _key(letters: bytes) -> int:
    """A key for as long as the process lives."""
    return hash(letters) & ALL_BITS or 1


def fold(text: str) -> str:
    """The words alone: NFKC, without case, punctuation and symbols."""
    if text.isascii():
        return b" ".join(text.encode().translate(ASCII).split()).decode()
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(re.sub(r"[^\w]+|_", " ", plain).split())


def folded(row: Question) -> str:
    """The question's words; of a text without words, the text."""
    return fold(row.spoken) or group_key(row)


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


class Signatures(NamedTuple):
    """Of near twins' texts, a row each. bands: 64-bit keys; two texts that are alike have one of them in common. short: the low
    byte of each minimum; the share of equal ones estimates how many runs of letters (Jaccard) the texts have in common."""

    bands: "np.ndarray"
    short: "np.ndarray"


def signatures(texts: Sequence[str]) -> Signatures:
    """MinHash over runs of three letters. Texts with different numbers in them ask for different things, so they share no
    band; a text without letters has bands of 0."""
    import numpy as np

    bands = np.zeros((len(texts), PERMUTATIONS // BAND), dtype=np.uint64)
    short = np.zeros((len(texts), PERMUTATIONS), dtype=np.uint8)
    kept = [number for number, text in enumerate(texts) if text]
    start = 0
    while start < len(kept):
        end, letters = start, 0
        while end < len(kept) and (end == start or letters + len(texts[kept[end]]) <= MOST_LETTERS):
            letters += len(texts[kept[end]])
            end += 1
        part = kept[start:end]
        chosen = [texts[number] for number in part]
        minima, mixed = _minima(chosen), np.array(_numbers(chosen), dtype=np.uint64)
        for band in range(bands.shape[1]):
            key = mixed
            for column in minima[:, band * BAND : (band + 1) * BAND].T:
                key = mix(key ^ column)
            bands[part, band] = np.maximum(key, 1)
        short[part] = (minima & np.uint64(0xFF)).astype(np.uint8)
        start = end
    return Signatures(bands, short)


def _minima(texts: Sequence[str]) -> "np.ndarray":
    import numpy as np
    from rensa import RMinHash  # pyrefly: ignore[missing-module-attribute]  it has no stubs

    joined = "".join(text + "\0" * (GRAM - 1) for text in texts)
    letters = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    runs = letters[: -(GRAM - 1)] | letters[1:-1] << np.uint64(21) | letters[2:] << np.uint64(42)
    ends = np.cumsum([len(text) + GRAM - 1 for text in texts], dtype=np.uint64)
    ends[-1] = len(runs)
    offsets = np.concatenate([np.zeros(1, dtype=np.uint64), ends])
    rows = RMinHash.digest_matrix_from_flat_token_hashes(mix(runs), offsets, PERMUTATIONS, 1).to_rows()
    minima = np.fromiter(chain.from_iterable(rows), dtype=np.uint32, count=PERMUTATIONS * len(texts))
    return minima.reshape(-1, PERMUTATIONS).astype(np.uint64)


def _numbers(texts: Sequence[str]) -> list[int]:
    """A key for the numbers in each text, in their order."""
    return [zlib.crc32(" ".join(DIGITS.findall(text)).encode()) for text in texts]


def mix(values: "np.ndarray") -> "np.ndarray":
    """64-bit numbers spread over all of their range (the finaliser of SplitMix64)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
