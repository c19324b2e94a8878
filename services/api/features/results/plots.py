"""The plots of a report's page: where every line, bar and word stands. The template draws them, and escapes the words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

WIDTH, LEFT, RIGHT = 720, 250, 90  # units of the drawing; labels stand left of the plot, figures right of it
ROW, TOP = 24, 8
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
    plot = Plot(title, TOP * 2 + ROW * len(rows), zero=at(0.0))
    for number, (label, (value, lowest, highest)) in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        plot.intervals.append(IntervalMark(at(lowest), at(value), at(highest), y))
        plot.words += [Word(LEFT - 10, y + 4, label, "end"), Word(WIDTH - RIGHT + 10, y + 4, f"{value:.3f}", "start")]
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
        plot.words.append(Word(LEFT - 10, plot.height - TOP + ROW * len(values) / 2 + 4, label, "end"))
        for number, value in enumerate(values):
            y = plot.height - TOP
            plot.height += ROW
            if value is None:
                continue
            start, end = sorted((at(0.0), at(value)))
            plot.bars.append(Bar(start, y + ROW * 0.15, end - start, thick, number % COLOURS))
            plot.words.append(Word(WIDTH - RIGHT + 10, y + ROW / 2 + 4, form.format(value), "start"))
    return plot


def _range(values: Iterable[float]) -> tuple[float, float]:
    """Of the values and zero, never empty."""
    with_zero = [0.0, *values]
    low, high = min(with_zero), max(with_zero)
    return (low, high) if low < high else (low, low + 1.0)


def _scale(low: float, high: float):
    """A value's position on the drawing."""
    return lambda value: round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)
