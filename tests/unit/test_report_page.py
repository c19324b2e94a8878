"""The report as a page: complete, whole as HTML, asking nobody for anything, and nothing of a model's text is markup."""

import itertools
import re
from html.parser import HTMLParser

import pytest

from services.api.features.results import plots
from services.api.features.results.report_page import page
from shared.contracts.report import read_report
from tests.fakes.reports import EVIL, REPORT, WHOLE

ADDRESSES = (
    "src",
    "srcset",
    "href",
    "xlink:href",
    "action",
    "formaction",
    "data",
    "poster",
    "background",
    "ping",
    "style",
)
VOID = {"meta", "line", "rect", "circle", "br"}


class Page(HTMLParser):
    """Fails on tags that do not match; keeps texts, tags and every attribute that names an address."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [name for name, _ in attrs if name in ADDRESSES]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def text() -> str:
    return page(read_report(WHOLE))


def test_a_models_text_stays_text(text: str):
    parsed = Page(text)
    assert {"script", "img", "iframe", "link", "object"}.isdisjoint(parsed.tags)
    assert parsed.handlers == []
    assert sum(EVIL in part for part in parsed.texts) == 5  # the domain, and all four parts of the example


def test_it_asks_nobody_for_anything(text: str):
    assert Page(text).addresses == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_what_is_drawn_has_a_colour_in_light_and_in_dark(text: str):
    style, body = text.split("<style>")[1].split("</style>")
    drawn = set(re.findall(r'<(?:rect|circle|line|i) class="(\w+)"', body))
    assert drawn >= {"c0", "c1", "whisker", "zero"}
    assert drawn <= set(re.findall(r"\.(\w+) \{ (?:fill|stroke): ", style))
    themes = re.findall(r":root \{([^}]*)\}", style)
    names = [set(re.findall(r"(--\w+):", theme)) for theme in themes]
    assert names[0] == names[1] == set(re.findall(r"var\((--\w+)\)", style))


def test_every_part_is_there(text: str):
    parsed = Page(text)
    words = " ".join(part.strip() for part in parsed.texts if part.strip())
    assert words.index("Nothing is told apart from the base.") < words.index("Test split, 60 questions")
    assert words.index("Test split, 60 questions") < words.index("Before and after")
    for part in (
        "0.500 [0.400, 0.600]", "+0.300 [+0.200, +0.400]", "40 / 15 / 5", "few questions",
        "phase 3, evolve rejected -0.200 [-0.300, -0.100]", "distill: 90 of 112 answers kept",
        "phase 2, iterate 30 0 700 80 0.0000 0.0000 0.0000 91 3", "base model", "Calls to strong models by phase",
    ):  # fmt: skip
        assert part in words, part
    assert parsed.tags.count("figure") == parsed.tags.count("svg") == 7
    assert parsed.tags.count("rect") == 3 + 2 + 2 + 2 + 3  # tries, lengths, margins, losses, calls


def test_an_earlier_report_has_a_page_too():
    parsed = Page(page(read_report(REPORT)))
    assert "What this job measured" in " ".join(parsed.texts)


def test_intervals_stand_where_their_values_are():
    plot = plots.intervals("gain", [("a", [-0.5, -1.0, 0.0]), ("b", [0.5, 0.0, 1.0])])
    assert plot is not None
    first, second = plot.intervals
    middle = (plots.EDGE + plots.WIDTH - plots.RIGHT) / 2
    assert (first.low, first.high, second.low, second.high) == (plots.EDGE, middle, middle, plots.WIDTH - plots.RIGHT)
    assert plot.zero == middle
    assert first.y < second.y < plot.height


def test_no_label_is_cut_and_none_lies_over_another():
    long = (
        "phase 2, iterate, round 12, of the student org/a-student-with-a-very-long-name-7B-Instruct, mean of 12 draws"
    )
    drawn = [
        plots.intervals("gain", [(long, [0.5, 0.0, 1.0]), ("short", [123456.789, 0.0, 1.0])]),
        plots.bars("calls", [(long, [1.0, 2.0]), (long, [1e9, None])], ["a", "b"], "{:,.0f}"),
    ]
    for plot in drawn:
        assert plot is not None
        for word in plot.words:  # 14 units high, at most 8 wide in any letter on average
            wide = 8 * len(word.text)
            assert (
                word.x + wide <= plot.width if word.anchor == "start" else word.x == plot.width and wide <= plots.RIGHT
            )
            assert 0 < word.y < plot.height
        labels = [word.y for word in plot.words if word.x == 0]
        assert all(second - first >= 14 for first, second in itertools.pairwise(labels))
        marks = [mark.y for mark in plot.intervals] + [bar.y for bar in plot.bars]
        assert all(abs(mark - label) > 3 for mark in marks for label in labels)


def test_bars_begin_at_zero_and_what_is_missing_has_none():
    plot = plots.bars("loss", [("a", [2.0, None]), ("b", [None, None]), ("c", [-1.0, 1.0])], ["x", "y"], "{:.1f}")
    assert plot is not None
    widths = [bar.width for bar in plot.bars]
    assert len(widths) == 3
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert [word.text for word in plot.words] == ["a", "2.0", "c", "-1.0", "1.0"]
    assert plots.bars("none", [("a", [None])], ["x"], "{}") is None
    assert plots.intervals("none", []) is None
