"""The regular expressions of NL-RX (Locascio et al. 2016) and whether two of them have the same language.

Grammar, loosest first: union `|`, intersection `&`, concatenation, repetition `* + ? {n} {n,} {n,m}`, complement `~`, atoms. An
atom is `.`, a class in brackets, `\\b` (the letter b, as in the published measure), a word `<M0>`, a letter or a group. Words
and classes are replaced as the published measure does. Languages are compared by derivatives (Brzozowski 1964): two
expressions are equal where no reachable pair of derivatives differs in accepting the empty word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORDS = {"<M0>": "dog", "<M1>": "truck", "<M2>": "ring", "<M3>": "lake"}
_CLASSES = {
    "<NUM>": frozenset("0"),
    "<VOW>": frozenset("AEIOUaeiou"),
    "<CAP>": frozenset("AEIOUB"),
    "<LOW>": frozenset("aeioudgtrcknlbx"),
    "<LET>": frozenset("AEIOUBaeioudgtrcknlbx"),
}
# Letters that are told apart: those of the words, and one of each kind for all others.
ALPHABET = frozenset("AEIOUBaeioudgtrcknlbx0 ")
_TOKEN = re.compile(r"\s*(<\w+>|\\b|\{\s*\d+\s*(?:,\s*\d*\s*)?\}|\S)")
MOST_REPEATS, MOST_PAIRS, MOST_NODES = 64, 4_000, 200_000


@dataclass(eq=False, slots=True)
class Language:
    """A node; equal nodes of one comparison are one object. kind: letters, empty (the empty word), union, both (intersection),
    chain, star, not. number: in the order of making. nullable: it has the empty word."""

    kind: str
    letters: frozenset[str]
    parts: tuple["Language", ...]
    number: int
    nullable: bool


class TooLarge(ValueError):
    """The comparison would take too many states."""


class Languages:
    """Makes the nodes of one comparison, in a form in which most equal languages are equal nodes."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, frozenset[str], tuple[Language, ...]], Language] = {}
        self._derivatives: dict[tuple[Language, str], Language] = {}
        self.nothing = self._node("letters")
        self.empty = self._node("empty")
        self.all = self._node("not", parts=(self.nothing,))

    def _node(self, kind: str, letters: frozenset[str] = frozenset(), parts: tuple[Language, ...] = ()) -> Language:
        key = kind, letters, parts
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MOST_NODES:
                raise TooLarge(f"more than {MOST_NODES} different parts")
            node = self._nodes[key] = Language(kind, letters, parts, len(self._nodes), _nullable(kind, parts))
        return node

    def letters(self, letters: frozenset[str]) -> Language:
        return self._node("letters", letters)

    def union(self, *parts: Language) -> Language:
        kept = set(_flat("union", parts)) - {self.nothing}
        if self.all in kept:
            return self.all
        letters = frozenset[str]().union(*(part.letters for part in kept if part.kind == "letters"))
        kept = {part for part in kept if part.kind != "letters"}
        return self._of("union", kept | ({self.letters(letters)} if letters else set()), self.nothing)

    def both(self, *parts: Language) -> Language:
        kept = set(_flat("both", parts)) - {self.all}
        return self.nothing if self.nothing in kept else self._of("both", kept, self.all)

    def complement(self, part: Language) -> Language:
        return part.parts[0] if part.kind == "not" else self._node("not", parts=(part,))

    def chain(self, first: Language, rest: Language) -> Language:
        if self.nothing in (first, rest):
            return self.nothing
        if first is self.empty or rest is self.empty:
            return rest if first is self.empty else first
        if first.kind == "chain":
            return self.chain(first.parts[0], self.chain(first.parts[1], rest))
        return self._node("chain", parts=(first, rest))

    def star(self, part: Language) -> Language:
        if part in (self.nothing, self.empty):
            return self.empty
        if part.kind == "letters" and part.letters == ALPHABET:
            return self.all
        return part if part.kind == "star" else self._node("star", parts=(part,))

    def repeat(self, node: Language, least: int, most: int | None) -> Language:
        rest = self.star(node) if most is None else self.empty
        for _ in range((most or least) - least):
            rest = self.union(self.empty, self.chain(node, rest))
        for _ in range(least):
            rest = self.chain(node, rest)
        return rest

    def word(self, letters: str) -> Language:
        node = self.empty
        for letter in reversed(letters):
            node = self.chain(self.letters(frozenset({letter})), node)
        return node

    def derivative(self, node: Language, letter: str) -> Language:
        """What may follow the letter."""
        key = node, letter
        if key not in self._derivatives:
            self._derivatives[key] = self._derived(node, letter)
        return self._derivatives[key]

    def _derived(self, node: Language, letter: str) -> Language:
        match node.kind:
            case "letters":
                return self.empty if letter in node.letters else self.nothing
            case "empty":
                return self.nothing
            case "union":
                return self.union(*(self.derivative(part, letter) for part in node.parts))
            case "both":
                return self.both(*(self.derivative(part, letter) for part in node.parts))
            case "not":
                return self.complement(self.derivative(node.parts[0], letter))
            case "star":
                return self.chain(self.derivative(node.parts[0], letter), node)
            case _:
                first, rest = node.parts
                after = self.chain(self.derivative(first, letter), rest)
                return self.union(after, self.derivative(rest, letter)) if first.nullable else after

    def _of(self, kind: str, kept: set[Language], otherwise: Language) -> Language:
        if len(kept) < 2:
            return next(iter(kept), otherwise)
        return self._node(kind, parts=tuple(sorted(kept, key=lambda part: part.number)))

    def told_apart(self) -> list[str]:
        """One letter for each group that all nodes so far treat alike."""
        sets = {node.letters for node in self._nodes.values() if node.kind == "letters"}
        groups = {tuple(letter in letters for letters in sets): letter for letter in sorted(ALPHABET)}
        return sorted(groups.values())


def same_language(one: str, other: str) -> bool:
    """Raises ValueError where one of them is no expression of this grammar, TooLarge where the automata are too large."""
    try:
        return _same_language(Languages(), one, other)
    except RecursionError:
        raise TooLarge("its parts are nested too deep") from None


def _same_language(languages: Languages, one: str, other: str) -> bool:
    pair = parsed(languages, one), parsed(languages, other)
    letters = languages.told_apart()
    open_pairs, seen = [pair], {pair}
    while open_pairs:
        left, right = open_pairs.pop()
        if left.nullable != right.nullable:
            return False
        for letter in letters if left is not right else ():
            pair = languages.derivative(left, letter), languages.derivative(right, letter)
            if pair not in seen:
                if len(seen) >= MOST_PAIRS:
                    raise TooLarge(f"more than {MOST_PAIRS} states")
                seen.add(pair)
                open_pairs.append(pair)
    return True


def parsed(languages: Languages, text: str) -> Language:
    return _Parser(languages, text).whole()


def _nullable(kind: str, parts: tuple[Language, ...]) -> bool:
    match kind:
        case "letters":
            return False
        case "union":
            return any(part.nullable for part in parts)
        case "not":
            return not parts[0].nullable
        case "both" | "chain":
            return all(part.nullable for part in parts)
        case _:
            return True  # empty, star


def _flat(kind: str, parts: tuple[Language, ...]) -> Iterator[Language]:
    for part in parts:
        yield from part.parts if part.kind == kind else (part,)


class _Parser:
    """One pass over the tokens; raises ValueError with the place of what cannot be read."""

    def __init__(self, languages: Languages, text: str):
        self.languages = languages
        self.tokens = [match.group(1) for match in _TOKEN.finditer(text)]
        self.place = 0
        self.depth = 0
        if not self.tokens:
            raise ValueError("an empty expression")

    def whole(self) -> Language:
        node = self._union()
        if self.place < len(self.tokens):
            raise ValueError(f"{self.tokens[self.place]!r} at token {self.place + 1} closes nothing")
        return node

    def _peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _take(self) -> str:
        piece = self._peek()
        self.place += 1
        return piece

    def _union(self) -> Language:
        parts = [self._both()]
        while self._peek() == "|":
            self._take()
            parts.append(self._both())
        return self.languages.union(*parts)

    def _both(self) -> Language:
        parts = [self._chain()]
        while self._peek() == "&":
            self._take()
            parts.append(self._chain())
        return self.languages.both(*parts)

    def _chain(self) -> Language:
        parts = []
        while self._peek() not in ("", "|", "&", ")"):
            parts.append(self._repeated())
        if not parts:
            raise ValueError(f"nothing stands before token {self.place + 1}")
        node = parts.pop()
        while parts:
            node = self.languages.chain(parts.pop(), node)
        return node

    def _repeated(self) -> Language:
        node = self._complement()
        while True:
            piece = self._peek()
            if piece in ("*", "+", "?"):
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[piece]
            elif piece.startswith("{") and len(piece) > 1:
                least, most = _bounds(piece)
            else:
                return node
            self._take()
            node = self.languages.repeat(node, least, most)

    def _complement(self) -> Language:
        if self._peek() != "~":
            return self._atom()
        self._take()
        self._deeper()
        node = self.languages.complement(self._complement())
        self.depth -= 1
        return node

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > 100:
            raise ValueError("groups are nested too deep")

    def _atom(self) -> Language:
        piece = self._take()
        if piece == "(":
            self._deeper()
            node = self._union()
            if self._take() != ")":
                raise ValueError("a group is not closed")
            self.depth -= 1
            return node
        if piece == "[":
            return self._class()
        if piece == ".":
            return self.languages.letters(ALPHABET)
        if piece in _WORDS:
            return self.languages.word(_WORDS[piece])
        if piece in _CLASSES:
            return self.languages.letters(_CLASSES[piece])
        if piece == "\\":
            piece = self._take()
        if piece == "\\b":
            piece = "b"
        if len(piece) != 1 or piece in "*+?{}])<>":
            raise ValueError(f"{piece!r} at token {self.place} is not expected there")
        return self.languages.letters(frozenset({_known(piece)}))

    def _class(self) -> Language:
        letters: set[str] = set()
        while (piece := self._take()) != "]":
            if piece in _CLASSES:
                letters |= _CLASSES[piece]
            elif len(piece) == 1 and piece not in "[&|~()":
                letters.add(_known(piece))
            else:
                raise ValueError("a class is not closed" if not piece else f"{piece!r} in a class")
        return self.languages.letters(frozenset(letters))


def _known(letter: str) -> str:
    """The letter that stands for this one."""
    if letter in ALPHABET:
        return letter
    if letter.isdigit():
        return "0"
    if letter.isalpha():
        return "B" if letter.isupper() else "x"
    return " "


def _bounds(piece: str) -> tuple[int, int | None]:
    least, comma, most = piece.strip("{}").replace(" ", "").partition(",")
    bounds = int(least), (int(most) if most else None) if comma else int(least)
    if max(bounds[0], bounds[1] or 0) > MOST_REPEATS or (bounds[1] is not None and bounds[1] < bounds[0]):
        raise ValueError(f"{piece}: at most {MOST_REPEATS} repetitions, the smaller number first")
    return bounds
