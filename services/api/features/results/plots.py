"""The plots of a report's page: where every line, bar and word stands. The template draws them, and escapes the words."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# Units of the drawing. A label stands above its row from the left edge, so that none is cut; figures stand right of the plot.
WIDTH, RIGHT, EDGE = 480, 110, 6
ROW, TOP, LINE = 22, 4, 19
LABEL = 56  # characters in a line of a label
COLOURS = 6


class Bar(NamedTuple):
    """colour: a number of the page's palette."""

    x: float
    y: float
    width: float
    height: float
    colour: int


class Word(NamedTuple):
    x: float
    y: float
    text: str
    anchor: str


class IntervalMark(NamedTuple):
    """A mean with its 95 % interval, all three as positions."""

    low: float
    value: float
    high: float
    y: float


@dataclass
class Plot:
    """zero: where the value zero is, if a line is to be drawn there."""

    title: str
    height: float
    bars: list[Bar] = field(default_factory=list)
    intervals: list[IntervalMark] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    zero: float | None = None
    legend: list[tuple[str, int]] = field(default_factory=list)
    width: int = WIDTH


def intervals(title: str, rows: Sequence[tuple[str, Sequence[float]]]) -> Plot | None:
    """rows: label, (value, low, high). Zero is always on the axis, so that lengths may be compared. None without rows."""
    if not rows:
        return None
    low, high = _range(part for _, triple in rows for part in triple)
    at = _scale(low, high)
    plot = Plot(title, TOP * 2, zero=at(0.0))
    for label, (value, lowest, highest) in rows:
        _add_label(plot, label)
        y = plot.height - TOP + ROW / 2
        plot.intervals.append(IntervalMark(at(lowest), at(value), at(highest), y))
        plot.words.append(Word(WIDTH, y + 5, f"{value:.3f}", "end"))
        plot.height += ROW
    return plot


def bars(
    title: str, rows: Sequence[tuple[str, Sequence[float | None]]], series: Sequence[str], form: str
) -> Plot | None:
    """rows: label, one value for each of the series; None has no bar. form: how a figure is written. None without values."""
    rows = [row for row in rows if any(value is not None for value in row[1])]
    if not rows:
        return None
    low, high = _range(value for _, values in rows for value in values if value is not None)
    at = _scale(low, high)
    thick = ROW * 0.7
    plot = Plot(title, TOP * 2, zero=at(0.0), legend=[(name, n % COLOURS) for n, name in enumerate(series)])
    for label, values in rows:
        _add_label(plot, label)
        for number, value in enumerate(values):
            y = plot.height - TOP
            plot.height += ROW
            if value is None:
                continue
            start, end = sorted((at(0.0), at(value)))
            plot.bars.append(Bar(start, y + ROW * 0.15, end - start, thick, number % COLOURS))
            plot.words.append(Word(WIDTH, y + ROW / 2 + 5, form.format(value), "end"))
    return plot


def _add_label(plot: Plot, label: str) -> None:
    for line in textwrap.wrap(label, LABEL) or [""]:
        plot.words.append(Word(0, plot.height - TOP + LINE - 5, line, "start"))
        plot.height += LINE


def _range(values: Iterable[float]) -> tuple[float, float]:
    """Of the values and zero, never empty."""
    with_zero = [0.0, *values]
    low, high = min(with_zero), max(with_zero)
    return (low, high) if low < high else (low, low + 1.0)


def _scale(low: float, high: float):
    """A value's position on the drawing."""
    return lambda value: round(EDGE + (value - low) / (high - low) * (WIDTH - EDGE - RIGHT), 1)
