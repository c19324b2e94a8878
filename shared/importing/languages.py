"""The languages of texts, by py3langid's model of character sequences. It is a guess: short texts are often taken for another one."""

from collections import Counter
from collections.abc import Iterable

LEAST_LETTERS = 12  # of a text whose language is looked for
READ = 1000  # letters of a text
UNKNOWN = "unknown"


def languages_of(texts: Iterable[str]) -> dict[str, int]:
    """ISO 639-1 code -> texts, the most frequent first. `unknown`: too short, or hardly any letters (code, numbers)."""
    from py3langid import classify  # here: its model is large

    counts: Counter[str] = Counter()
    for text in texts:
        letters = sum(c.isalpha() for c in text[:READ])
        wide = any(ord(c) > 0x2E80 for c in text[:READ])  # a sign of such a script says as much as a word
        counts[classify(text[:READ])[0] if letters >= LEAST_LETTERS or (wide and letters) else UNKNOWN] += 1
    return dict(counts.most_common())
