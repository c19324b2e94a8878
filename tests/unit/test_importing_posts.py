"""Posts.xml: questions with accepted answers, in any order, and what would harm the reader refused."""

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.data import Question, parse_line
from shared.contracts.errors import UserError
from shared.contracts.imports import StackExchangeOptions
from shared.importing.archive import MOST_RATIO, RATIO_FROM
from shared.importing.html_text import html_to_text
from shared.importing.rows import checked_rows, write_rows
from shared.importing.stackexchange import LONGEST_POST, read_posts, site_of
from tests.fakes.dump import HEAD, answer, posts_xml, question, zipped


def read(path: Path, **options: Any) -> tuple[list[dict], dict[str, int]]:
    left_out: Counter[str] = Counter()
    options = {"site": "stackoverflow.com"} | options
    rows = list(checked_rows(read_posts(path, StackExchangeOptions.model_validate(options), left_out), left_out))
    return rows, dict(+left_out)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "Posts.xml"
    path.write_bytes(content)
    return path


POSTS = [
    answer(12, 2),
    question(1, 11, "python machine-learning", score=9),
    question(2, 12, "nlp machine-learning"),
    question(3, None, "nlp"),
    question(4, 14, "computer-vision", score=0),
    question(5, 15, "cooking"),
    question(6, 16, "deep-learning"),
    question(7, 17, "deep-learning", score=7),
    answer(11, 1),
    answer(17, 7, score=-1),
    answer(18, 1, score=90),
]


@pytest.mark.parametrize("order", [1, -1])
def test_accepted_answers_find_their_questions_in_any_order(tmp_path: Path, order: int):
    rows, left_out = read(written(tmp_path, posts_xml(POSTS[::order])), preset="paper", site="x.org")
    assert rows[0] == {
        "id": "x.org/1",
        "title": "Title 1",
        "question": "Question 1?",
        "reference": "Answer 11.",
        "category": "machine learning",
        "source": "https://x.org/questions/1 by https://x.org/users/7; answer https://x.org/a/11 by Ann; "
        "CC BY-SA 4.0, CC BY-SA 3.0",
    }
    assert [(row["id"], row["category"]) for row in rows[1:]] == [("x.org/2", "natural language processing")]
    assert left_out == {
        "no accepted answer": 1,
        "low score": 1,
        "other tags": 1,
        "low score of the answer": 1,
        "answer not in the file": 1,
    }


def test_the_limit_keeps_the_highest_scored(tmp_path: Path):
    path = written(tmp_path, posts_xml(POSTS))
    rows, left_out = read(path, tags=["nlp", "machine-learning"], limit=1)
    assert [row["id"] for row in rows] == ["stackoverflow.com/1"]
    assert left_out["over the limit"] == 1
    everything, _ = read(path, min_score=0, min_answer_score=-5)
    assert [row["id"].rpartition("/")[2] for row in everything] == ["1", "7", "2"]
    assert "category" not in everything[0]


@pytest.mark.parametrize(
    ("day", "licence"),
    [
        ("2009-04-30T07:48:06.074", "CC BY-SA 2.5"),
        ("2011-04-07T23:59:59.999", "CC BY-SA 2.5"),
        ("2011-04-08T00:00:00.000", "CC BY-SA 3.0"),
        ("2018-05-01T23:59:59.999", "CC BY-SA 3.0"),
        ("2018-05-02T00:00:00.000", "CC BY-SA 4.0"),
        ("", "CC BY-SA"),
    ],
)
def test_the_licence_follows_from_the_day_where_the_dump_does_not_name_it(tmp_path: Path, day: str, licence: str):
    posts = [question(1, 2, CreationDate=day, ContentLicense=""), answer(2, 1, CreationDate=day, ContentLicense="")]
    assert read(written(tmp_path, posts_xml(posts)))[0][0]["source"].endswith(f"by Ann; {licence}")


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("stats.stackexchange.com.7z", "stats.stackexchange.com"),
        ("stackoverflow.com-Posts.7z", "stackoverflow.com"),
        ("ru.meta.stackoverflow.com", "ru.meta.stackoverflow.com"),
        ("meta.mathoverflow.net.zip", "meta.mathoverflow.net"),
        ("superuser.com_Posts.xml", "superuser.com"),
        ("Posts.xml", None),
    ],
)
def test_the_site_follows_from_the_name_of_the_dump(name: str, site: str | None):
    assert site_of(name) == site


def test_links_to_a_guessed_site_are_not_made(tmp_path: Path):
    with pytest.raises(UserError, match="name it as `site`"):
        list(read_posts(written(tmp_path, posts_xml(POSTS)), StackExchangeOptions(), Counter()))


def test_rows_can_be_uploaded(tmp_path: Path):
    out = tmp_path / "rows.jsonl"
    rows = read(written(tmp_path, posts_xml(POSTS)))[0]
    assert write_rows(rows, out) == (2, 2)
    again = [parse_line(number, line.encode()) for number, line in enumerate(out.read_text().splitlines(), start=1)]
    assert [item.source for item in again if isinstance(item, Question)] == [row["source"] for row in rows]


LAUGHS = '<!DOCTYPE posts [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n<posts><row Id="1" Title="&b;"/></posts>'
EXTERNAL = '<!DOCTYPE posts SYSTEM "file:///etc/passwd"><posts/>'
REFUSED = [
    ("entities", LAUGHS.encode(), "document type"),
    ("external", EXTERNAL.encode(), "document type"),
    ("undefined_entity", b'<posts><row Id="&nbsp;"/></posts>', "not well-formed"),
    ("cut", posts_xml(POSTS)[:-20], "not well-formed"),
    ("other", b"<users><row/></users>", "'users'"),
    ("deep", b"<posts>" + b"<a>" * 100_000, "'a'"),
    ("long_row", HEAD.encode() + b'<row Body="' + b"x" * 2 * LONGEST_POST, "longer"),
    ("many_names", b"<posts><row " + b" ".join(b'a%d=""' % n for n in range(200)) + b"/></posts>", "attributes"),
    ("7z", b"7z\xbc\xaf\x27\x1c" + b"\x00" * 50, "7z x"),
    ("gzip", b"\x1f\x8b" + b"\x00" * 50, "gunzip"),
    ("no_zip", b"PK\x03\x04" + b"\x00" * 50, "not a zip"),
    ("empty", b"", "not well-formed"),
]


@pytest.mark.parametrize(("content", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_what_is_no_dump_is_refused_in_words(tmp_path: Path, content: bytes, words: str):
    with pytest.raises(UserError, match=words):
        read(written(tmp_path, content))


def test_a_zip_is_read_without_unpacking_it_to_the_disk(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"../../Posts.xml": posts_xml(POSTS), "Users.xml": b"<users/>"})
    assert len(read(path)[0]) == 2
    with pytest.raises(UserError, match="0 files named Posts"):
        read(zipped(tmp_path / "b.zip", {"Users.xml": b""}))


def test_a_zip_bomb_is_refused_early(tmp_path: Path):
    bomb = HEAD.encode() + b" " * (3 * RATIO_FROM)
    path = zipped(tmp_path / "bomb.zip", {"Posts.xml": bomb})
    assert len(bomb) > MOST_RATIO * path.stat().st_size
    with pytest.raises(UserError, match="times its size"):
        read(path)


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    filler = "<p>" + "word " * 1000 + "</p>"
    path = written(tmp_path, posts_xml(question(n, None, Body=filler) for n in range(1000)))
    assert path.stat().st_size > 5_000_000
    tracemalloc.start()
    read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_html_becomes_what_people_read():
    html = (
        "<p>Use <b>both</b>:\n <code>a &lt; b</code></p><pre><code>x = 1\n  y```\n</code></pre><ol><li>one</li><li>"
        'see <a href="https://x.org">here</a></li></ol><blockquote><p>said</p></blockquote><script>no()</script>a<br>b'
    )
    assert html_to_text(html) == (
        "Use both: `a < b`\n\n````\nx = 1\n  y```\n````\n\n1. one\n\n2. see here (https://x.org)\n\n> said\n\na\nb"
    )


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_html_raises(text: str):
    html_to_text(text)
    html_to_text(f"<ul><li><pre>{text}<blockquote>")


def test_deep_html_is_no_hindrance():
    assert html_to_text("<div><blockquote>" * 20_000 + "x").strip("> ") in ("x", "")
