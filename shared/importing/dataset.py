"""A data file of any format and shape, as the rows of a dataset, with what was seen on the way."""

import os
import re
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePath

from shared.artifacts.token_counts import TokenCounter
from shared.contracts.data import (
    SPLITS,
    LineError,
    Question,
    Reading,
    bounded_lines,
    is_earlier_turn,
    parse_rows,
)
from shared.contracts.errors import UserError
from shared.contracts.field_names import is_about, is_question, looks_like_answer
from shared.contracts.file_reading import (
    FileReading,
    Lengths,
    Preview,
    PreviewRequest,
    PreviewRow,
    ReadOptions,
    StudentFit,
)
from shared.contracts.json_types import Json
from shared.contracts.mapping_hints import likely_answer, mapped_as
from shared.contracts.row_shapes import CHAT, NoShape, Shape, by_mapping, inside, shape_of
from shared.contracts.unfolding import MOST_MESSAGES, STAR, Messages, conversations, single_messages, starred, unfolded
from shared.datasets.likeness import folded, likeness_words
from shared.datasets.rows import Spool
from shared.datasets.splits import Assigned, Splitter
from shared.importing.languages import languages_of
from shared.importing.layout import CSV, Layout, NotReadable, layout_of, text
from shared.importing.packed import names_shown, packing_of
from shared.importing.personal_data import masked_item
from shared.importing.records import records, unread_parts

MOST_CATEGORIES = 50
SAMPLED, LANGUAGE_ROWS = 2000, 500  # rows whose tokens are counted, and whose language is guessed
NO_HEADER = (
    ". If the first row is no header, name the columns by place: --map question=column_1 --map reference=column_2"
)
COLUMN = re.compile(r"column_([1-9][0-9]{0,2})")


@dataclass
class DataFile:
    """An opened data file. Iterate `rows()` as often as needed; each pass reads the file again."""

    path: Path
    options: ReadOptions
    layouts: list[Layout]  # of a zip's data files one each, in the order of their names
    state: tuple[int, int]  # size and time of the last change, when it was opened
    unread: tuple[str, ...] = ()  # names of a zip's other files
    _starts: list[int] = field(default_factory=list)  # the number before the first record of each

    @classmethod
    def open(cls, path: Path, options: ReadOptions | None = None) -> "DataFile":
        """Raises NotReadable, BadArchive."""
        options = options or ReadOptions()
        state, packing = _state(path), packing_of(path, options.member)
        file = cls(path, options, [layout_of(path, part) for part in packing.parts], state, packing.unread)
        header = _numbered(options)
        for place, layout in enumerate(file.layouts):
            if layout.format == CSV and header:
                file.layouts[place] = layout._replace(header=header)
            elif layout.format == CSV and not layout.delimiter:
                file._refuse_prose(layout)
        if len(file.layouts) > 1:
            file._refuse_different()
        return file

    @property
    def layout(self) -> Layout:
        """Of the first, where it is a zip of several."""
        return self.layouts[0]

    @property
    def words(self) -> str:
        """What it is, for people."""
        several = f" of {len(self.layouts)} files" if len(self.layouts) > 1 else ""
        return self.layout.words + several

    @property
    def unread_parts(self) -> list[str]:
        """What of the file is not read, for people."""
        parts = [part for layout in self.layouts for part in unread_parts(self.path, layout)]
        return parts + ([f"the zip's {names_shown(self.unread)} is not read"] if self.unread else [])

    def _refuse_different(self) -> None:
        """Several files are one dataset if their rows have one shape. With a mapping each row says for itself whether it fits."""
        if self.options.mapping:
            return
        shapes = {layout.packed.member: self._first_shape(layout) for layout in self.layouts}
        if len({*shapes.values()} - {""}) > 1:
            told = names_shown([f"{name} ({shape or 'no rows'})" for name, shape in shapes.items()])
            raise NotReadable(
                f"the zip holds data files of different shapes: {told}. Name the one to read, --member "
                f"{next(iter(shapes))} (over HTTP the field member), or upload each by itself",
                param="member",
            )

    def _first_shape(self, layout: Layout) -> str:
        """How the first good record is recognised; by its fields, if it is not."""
        for _, value in records(self.path, layout):
            if not isinstance(value, LineError):
                row = (unfolded(value) or [value])[0]
                try:
                    return shape_of(tuple(row)).name
                except NoShape:
                    return "fields " + ", ".join(sorted(row))[:100]
        return ""

    def _refuse_prose(self, layout: Layout) -> None:
        """A text with one column is a table only if its first line is the name of a field."""
        with text(self.path, layout) as lines:
            first = next(bounded_lines(lines), b"").decode(errors="replace").strip().strip('"').lstrip("\ufeff")
        if first and not is_question(first) and first not in self.options.mapping.values():
            raise NotReadable(
                "the file is neither JSON nor a table with a header; JSONL, JSON, CSV, XLSX, Parquet, Arrow or YAML is expected, "
                f"and its first line is {first[:80]!r}. If each line is a question, say so: --map question=column_1; a text is "
                "imported as a document: meteor data import documents",
                param="file",
            )

    def rows(self, reading: Reading | None = None) -> Iterator[Question | LineError]:
        """Good rows, and the errors of the bad ones."""
        reading = reading or Reading()
        reading.shape, reading.answers = self._shape, self.options.answers
        rows = parse_rows(self.records(), reading)
        rows = map(self._with_member, rows) if len(self.layouts) > 1 else rows
        return (masked_item(item, reading.masked) for item in rows) if self.options.mask else rows

    def _with_member(self, item: Question | LineError) -> Question | LineError:
        """An error with the name of the zip's file that it is in, and the line there."""
        if isinstance(item, Question):
            return item
        place = max(bisect_left(self._starts, item.line) - 1, 0)
        name, line = self.layouts[place].packed.member, item.line - self._starts[place]
        return item.model_copy(update={"message": f"{name}, line {line}: {item.message}"})

    @property
    def _shape(self) -> Shape | None:
        mapping = self.options.mapping
        starred = any(STAR in name for name in mapping.values())
        return by_mapping({name: name for name in mapping} if starred else {**mapping}) if mapping else None

    def records(self) -> Iterator[tuple[int, Json | LineError]]:
        """The file's records, with those inside that hold several rows or a row in an envelope. Raises NotReadable where the
        file changed since it was opened."""
        yield from self._records()
        if _state(self.path) != self.state:
            raise NotReadable("the file changed while it was read; read it again when it is complete", param="file")

    def _all(self) -> Iterator[tuple[int, Json | LineError]]:
        """The records of a zip's files, one file after the other, numbered on. Files that are all named by a split give it to
        their rows."""
        splits = [_split_named(layout.packed.member) for layout in self.layouts]
        self._starts, last = [], 0
        for layout, split in zip(self.layouts, splits, strict=True):
            self._starts.append(start := last)
            for number, value in records(self.path, layout):
                last = start + number
                if isinstance(value, LineError):
                    yield last, value.model_copy(update={"line": last})
                else:
                    yield last, {"split": split} | value if all(splits) else value

    def _records(self) -> Iterator[tuple[int, Json | LineError]]:
        mapping: dict[str, str] = {**self.options.mapping}
        named = [name for name in mapping.values() if name]
        starred_by = any(STAR in name for name in named)
        read = records(self.path, self.layout) if len(self.layouts) == 1 else self._all()
        if not named:
            for number, value in _put_together(read):
                inner = None if isinstance(value, LineError) else unfolded(value)
                if inner is None:
                    yield number, value
                else:
                    yield from ((number, part) for part in inner)
            return
        for number, value in read:
            if isinstance(value, LineError):
                yield number, value
                continue
            if starred_by:
                inner = starred(value, mapping)
            elif any(inside(value, part) is not None for name in named for part in name.split("+")):
                inner = None
            else:
                inner = unfolded(value)
            if inner is None:
                yield number, value
            elif not inner:
                yield (
                    number,
                    LineError(line=number, code="no_question", message="the record holds no rows", param="question"),
                )
            else:
                yield from ((number, part) for part in inner)


def _split_named(member: str) -> str:
    """The split that a file is named by: `train` of `data/train-0001.csv`; "" for any other name."""
    words = re.split(r"[_\W]+", PurePath(member).name.casefold())
    return next((word for word in words if word in SPLITS), "")


def _state(path: Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns


def _put_together(numbered: Iterator[tuple[int, Json | LineError]]) -> Iterator[tuple[int, Json | LineError]]:
    """Records; those of a file of single messages as conversations, numbered in order."""
    first = next(numbered, None)
    named = single_messages(first[1]) if first and isinstance(first[1], dict) else None
    if first is None or named is None:
        return chain([first] if first else [], numbered)
    return _talks(chain([first], numbered), named)


def _talks(numbered: Iterable[tuple[int, Json | LineError]], named: Messages) -> Iterator[tuple[int, Json | LineError]]:
    bad: list[tuple[int, LineError]] = []
    yield from enumerate(conversations(_messages(numbered, bad), named), start=1)
    yield from bad


def _messages(numbered: Iterable[tuple[int, Json | LineError]], bad: list[tuple[int, LineError]]) -> Iterator[Json]:
    for count, (number, value) in enumerate(numbered, start=1):
        if count > MOST_MESSAGES:
            raise NotReadable(
                f"more than {MOST_MESSAGES} single messages; divide the file by conversations", param="file"
            )
        if isinstance(value, LineError):
            bad.append((number, value))
        else:
            yield value


def _numbered(options: ReadOptions) -> tuple[str, ...]:
    """The names of a table's columns when the mapping names them by their place, so that the first row is no header."""
    names = [name for name in options.mapping.values() if name]
    places = [COLUMN.fullmatch(part) for name in names for part in name.split("+")]
    if not places or not all(places):
        return ()
    return tuple(f"column_{n}" for n in range(1, max(int(place[1]) for place in places if place) + 1))


@dataclass
class Checked:
    """A file that was read to its end, or up to `most_errors` bad rows (more: reading stopped there).

    errors: without the bad rows that options.skip_bad leaves out; those are in reading.skipped.
    """

    reading: FileReading
    n_rows: int
    assigned: Assigned
    errors: list[LineError]
    n_bad: int
    more: bool = False
    skipped: list[LineError] = field(default_factory=list)


class TooManyRows(UserError):
    code = "too_many_rows"


def check(
    file: DataFile,
    splitter: Splitter | None,
    most_errors: int,
    most_rows: int,
    whole: bool = False,
    spool: Spool | None = None,
) -> Checked:
    """Read the whole file. Memory grows with the number of rows by a few numbers each, and with the ids that it gives.

    splitter: gets the rows, and assigns their splits; None: they are only checked. spool: gets the good rows too. whole: go on behind `most_errors` bad rows and count them. Raises
    TooManyRows.
    """
    seen = Reading()
    bad: list[LineError] = []
    skipped: Counter[str] = Counter()
    n_bad, skip = 0, file.options.skip_bad
    for item in file.rows(seen):
        if isinstance(item, Question):
            if splitter is not None:
                splitter.add(item)
            if spool is not None:
                spool.add(item)
            if seen.rows > most_rows:
                raise TooManyRows(f"more than {most_rows} rows; divide the file", param="file")
            continue
        n_bad += 1
        if skip:
            skipped[f"{item.param or 'row'}: {item.code}"] += 1
        if len(bad) < most_errors:
            bad.append(item)
        elif not skip and not whole:
            break
    mapping: dict[str, str] = {**file.options.mapping}
    errors = unread(mapping, seen) if skip and seen.rows else bad or unread(mapping, seen)
    if n_bad > 1 and not seen.rows and all(error.code == "no_question" for error in bad):
        errors = [
            bad[0].model_copy(update={"message": bad[0].message + NO_HEADER * (file.layout.format == CSV)})
        ]  # said once
    assigned = (
        splitter.assign() if splitter is not None else Assigned.nothing(seen.rows > 0 and seen.split == seen.rows)
    )
    reading = FileReading(
        format=file.words,
        mapping={**file.options.mapping},
        member=file.options.member,
        answers=file.options.answers,
        shapes=dict(seen.shapes),
        references=seen.references,
        ignored_fields=dict(seen.ignored),
        notes=dict(seen.notes),
        skipped=dict(skipped),
        split_by=assigned.by,
        linked=assigned.linked,
        left=assigned.left,
        mask=file.options.mask,
        masked=dict(seen.masked),
        warnings=_warnings(seen, assigned, n_bad if skip else 0) + file.unread_parts,
    )
    return Checked(
        reading, seen.rows, assigned, errors, n_bad, n_bad > len(bad) and not skip and not whole, bad if skip else []
    )


def unread(mapping: dict[str, str], seen: Reading) -> list[LineError]:
    """What is wrong with the file as a whole: a mapped field that no row has, or answers under a name that is not known."""
    missing = [
        part
        for name in mapping.values()
        for part in name.split("+")
        if part and STAR not in name and not {part, name, part.partition(".")[0]} & seen.fields
    ]
    if seen.rows and missing:
        message = f"no row has the field {missing[0]!r} of the mapping; there are {', '.join(sorted(seen.fields)[:20])}"
        return [LineError(line=1, code="unknown_field", message=message, param="mapping")]
    texts = _texts(seen)
    if seen.rows and not seen.references and texts and "reference" not in mapping and not _for_graders(seen):
        unread_texts = {name: part for name, part in (seen.sample or {}).items() if name in texts}
        answer = (likely_answer(unread_texts) or texts[0]).replace(STAR, ".0")
        names = ", ".join(map(repr, texts[:5]))
        message = (
            f"no field is recognised as the answer, and {names} would not be read. Name the answer: {mapped_as(reference=answer)}, "
            "or say that there is none: --map reference= (empty); over HTTP the field mapping"
        )
        return [LineError(line=1, code="answers_not_read", message=message, param="mapping")]
    return []


def _texts(seen: Reading) -> list[str]:
    """Unread fields that may hold answers, the likeliest first."""
    texts = [name for name, count in seen.texts.items() if 2 * count >= seen.rows and not is_about(name)]
    return sorted(texts, key=lambda name: (not looks_like_answer(name), name))


def _for_graders(seen: Reading) -> bool:
    """Whether the rows have OpenAI's form for reinforcement: conversations without an answer, and fields beside them."""
    return not seen.references and seen.shapes.keys() == {CHAT}


def _warnings(seen: Reading, assigned: Assigned, left_out: int) -> list[str]:
    warnings = []
    if seen.rows and seen.references < seen.rows:
        none = (
            "no row has a reference answer"
            if not seen.references
            else f"{seen.rows - seen.references} of {seen.rows} rows have no reference answer"
        )
        warnings.append(none)
    if seen.rows and _for_graders(seen) and (texts := _texts(seen)):
        names = ", ".join(map(repr, texts[:5]))
        warnings.append(
            f"{names}: kept for graders, as {{{{item.{texts[0]}}}}}; --map reference={texts[0]} makes it the reference answer"
        )
    if left_out:
        warnings.append(f"{left_out} bad rows are left out")
    if 0 < seen.split < seen.rows:
        warnings.append(
            f"{seen.split} of {seen.rows} rows name a split, so the file's split is not used; name it in every row"
        )
    if assigned.by == "size":
        warnings.append("the file is small, so the split is balanced by its size and changes when rows are added")
    warnings.extend(likeness_words(assigned.linked, assigned.left))
    return warnings


def preview(
    file: DataFile, request: PreviewRequest, dev: float, test: float, most_rows: int, tokens: TokenCounter | None = None
) -> Preview:
    """What becomes of a file, without storing anything. tokens: of the student that lengths are counted for."""
    checked = check(file, Splitter(dev, test), 20, most_rows, whole=True)
    questions, references = array("L"), array("L")
    sample: list[Question] = []
    categories: Counter[str] = Counter()
    seen: set[int] = set()
    duplicates = 0
    shown: list[PreviewRow] = []
    raw, before, earlier = file.records(), None, False
    for item in file.rows():
        before = before if earlier else next(raw, None)
        earlier = isinstance(item, Question) and file.options.answers == "all" and is_earlier_turn(item)
        if len(shown) < request.rows and before is not None:
            value = before[1] if isinstance(before[1], dict) else None
            after, error = (Question(**dict(item)), None) if isinstance(item, Question) else (None, item)
            shown.append(PreviewRow(line=before[0], before=value, after=after, error=error))
        if not isinstance(item, Question):
            continue
        questions.append(len(item.text))
        if len(sample) < SAMPLED:
            sample.append(item)
        if item.reference:
            references.append(len(item.reference))
        if item.category and (item.category in categories or len(categories) < MOST_CATEGORIES):
            categories[item.category] += 1
        key = hash(folded(item))
        duplicates += key in seen
        seen.add(key)
    valid = not checked.errors and checked.n_rows > 0
    return Preview(
        valid=valid,
        problem=checked.errors[0].message if checked.errors else None if checked.n_rows else "the file has no rows",
        n_rows=checked.n_rows,
        n_bad=checked.n_bad,
        splits=checked.assigned.counts,
        reading=checked.reading,
        question_length=_lengths(questions),
        reference_length=_lengths(references),
        student=_student_fit(tokens, sample) if tokens else None,
        languages=languages_of(row.question for row in sample[:LANGUAGE_ROWS]),
        categories=dict(categories.most_common()),
        duplicates=duplicates,
        rows=shown,
        errors=checked.errors or checked.skipped,
    )


def _student_fit(tokens: TokenCounter, rows: list[Question]) -> StudentFit:
    asked = tokens.counts([row.text for row in rows])
    answered = tokens.counts([row.reference or "" for row in rows])
    limit = tokens.context or sys.maxsize
    return StudentFit(
        student=tokens.student,
        context=tokens.context,
        rows=len(rows),
        question=_lengths(asked),
        reference=_lengths([count for count, row in zip(answered, rows, strict=True) if row.reference]),
        too_long=sum(count >= limit for count in asked),
        cut=sum(limit > count and count + more > limit for count, more in zip(asked, answered, strict=True)),
    )


def _lengths(given: Sequence[int]) -> Lengths | None:
    if not given:
        return None
    values = sorted(given)
    return Lengths(median=values[len(values) // 2], p95=values[(len(values) - 1) * 95 // 100], longest=values[-1])
