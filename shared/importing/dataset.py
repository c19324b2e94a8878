"""A data file of any format and shape, as the rows of a dataset, with what was seen on the way."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.contracts.data import LineError, Question, Reading, bounded_lines, parse_rows
from shared.contracts.errors import UserError
from shared.contracts.file_reading import FileReading, Lengths, Preview, PreviewRequest, PreviewRow, ReadOptions
from shared.contracts.row_shapes import by_mapping, is_about, is_question
from shared.datasets.splits import Assigned, Splitter, folded
from shared.importing.layout import CSV, Layout, NotReadable, layout_of, text
from shared.importing.records import records

MOST_CATEGORIES = 50


@dataclass
class DataFile:
    """An opened data file. Iterate `rows()` as often as needed; each pass reads the file again."""

    path: Path
    options: ReadOptions
    layout: Layout

    @classmethod
    def open(cls, path: Path, options: ReadOptions | None = None) -> "DataFile":
        """Raises NotReadable, BadArchive."""
        file = cls(path, options or ReadOptions(), layout_of(path))
        if file.layout.format == CSV and not file.layout.delimiter:
            file._refuse_prose()
        return file

    def _refuse_prose(self) -> None:
        """A text with one column is a table only if its first line is the name of a field."""
        with text(self.path, self.layout) as lines:
            first = next(bounded_lines(lines), b"").decode(errors="replace").strip().strip('"').lstrip("\ufeff")
        if first and not is_question(first) and first not in self.options.mapping.values():
            raise NotReadable(
                "the file is neither JSON nor a table with a header; JSONL, JSON, CSV, XLSX, Parquet or Arrow is expected, "
                f"and its first line is {first[:80]!r}",
                param="file",
            )

    def rows(self, reading: Reading | None = None) -> Iterator[Question | LineError]:
        """Good rows, and the errors of the bad ones."""
        reading = reading or Reading()
        reading.shape = by_mapping({**self.options.mapping}) if self.options.mapping else None
        return parse_rows(records(self.path, self.layout), reading)


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


def check(file: DataFile, dev: float, test: float, most_errors: int, most_rows: int, whole: bool = False) -> Checked:
    """Read the whole file. Memory grows with the number of rows by 17 bytes each, and with the ids that it gives.

    dev, test: shares of the split in [0, 1]. whole: go on behind `most_errors` bad rows and count them. Raises TooManyRows.
    """
    seen, splitter = Reading(), Splitter(dev, test)
    bad: list[LineError] = []
    skipped: Counter[str] = Counter()
    n_bad, skip = 0, file.options.skip_bad
    for item in file.rows(seen):
        if isinstance(item, Question):
            splitter.add(item)
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
    errors = _of_the_file(file, seen) if skip and seen.rows else bad or _of_the_file(file, seen)
    if n_bad > 1 and not seen.rows and all(error.code == "no_question" for error in bad):
        errors = bad[:1]  # every row is of one unknown shape: said once
    assigned = splitter.assign()
    reading = FileReading(
        format=file.layout.words,
        mapping={**file.options.mapping},
        shapes=dict(seen.shapes),
        references=seen.references,
        ignored_fields=dict(seen.ignored),
        skipped=dict(skipped),
        split_by=assigned.by,
        warnings=_warnings(seen, assigned, n_bad if skip else 0),
    )
    return Checked(
        reading, seen.rows, assigned, errors, n_bad, n_bad > len(bad) and not skip and not whole, bad if skip else []
    )


def _of_the_file(file: DataFile, seen: Reading) -> list[LineError]:
    """What is wrong with the file as a whole: a mapped field that no row has, or answers under a name that is not known."""
    missing = [
        name for name in file.options.mapping.values() if name and not {name, name.partition(".")[0]} & seen.fields
    ]
    if seen.rows and missing:
        message = f"no row has the field {missing[0]!r} of the mapping; there are {', '.join(sorted(seen.fields)[:20])}"
        return [LineError(line=1, code="unknown_field", message=message, param="mapping")]
    unread = [name for name, count in seen.texts.items() if 2 * count >= seen.rows and not is_about(name)]
    if seen.rows and not seen.references and unread and "reference" not in file.options.mapping:
        names = ", ".join(map(repr, unread[:5]))
        message = (
            f"no field is recognised as the answer, and {names} would not be read. Name the answer in the mapping, "
            f"reference={unread[0]}, or say that there is none: reference= (empty)"
        )
        return [LineError(line=1, code="answers_not_read", message=message, param="mapping")]
    return []


def _warnings(seen: Reading, assigned: Assigned, left_out: int) -> list[str]:
    warnings = []
    if seen.rows and seen.references < seen.rows:
        none = (
            "no row has a reference answer"
            if not seen.references
            else f"{seen.rows - seen.references} of {seen.rows} rows have no reference answer"
        )
        warnings.append(none)
    if left_out:
        warnings.append(f"{left_out} bad rows are left out")
    if 0 < seen.split < seen.rows:
        warnings.append(
            f"{seen.split} of {seen.rows} rows name a split, so the file's split is not used; name it in every row"
        )
    if assigned.by == "size":
        warnings.append("the file is small, so the split is balanced by its size and changes when rows are added")
    if assigned.twins:
        warnings.append(
            f"{assigned.twins} rows differ from another question in case or punctuation only; they stand on its side of the split"
        )
    return warnings


def preview(file: DataFile, request: PreviewRequest, dev: float, test: float, most_rows: int) -> Preview:
    """What becomes of a file, without storing anything."""
    checked = check(file, dev, test, 20, most_rows, whole=True)
    questions: list[int] = []
    references: list[int] = []
    categories: Counter[str] = Counter()
    seen: set[int] = set()
    duplicates = 0
    shown: list[PreviewRow] = []
    raw = records(file.path, file.layout)
    for item in file.rows():
        before = next(raw, None)
        if len(shown) < request.rows and before is not None:
            value = before[1] if isinstance(before[1], dict) else None
            good = isinstance(item, Question)
            shown.append(
                PreviewRow(line=before[0], before=value, after=item if good else None, error=None if good else item)
            )
        if not isinstance(item, Question):
            continue
        questions.append(len(item.text))
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
        categories=dict(categories.most_common()),
        duplicates=duplicates,
        rows=shown,
        errors=checked.errors or checked.skipped,
    )


def _lengths(values: list[int]) -> Lengths | None:
    if not values:
        return None
    values.sort()
    return Lengths(median=values[len(values) // 2], p95=values[(len(values) - 1) * 95 // 100], longest=values[-1])
