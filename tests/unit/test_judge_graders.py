"""The graders: what counts as the same, and that the similarities are the published metrics."""

import random
import time

import pytest

from shared.contracts.grader_kinds import Grader
from shared.judging.graders import (
    all_scores,
    chrf,
    clean,
    contains,
    first_token,
    flags,
    rouge_l,
    score,
    string_check,
    words,
)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("```bash\nfind . -name '*.py'\n```", "find . -name '*.py'"),
        ("```\nls\n```", "ls"),
        ("`ls -la`.", "ls -la"),
        ('grep  "two words"\t file', "grep 'two words' file"),
        ("\u201cyes\u201d", '"yes"'),
        ("Paris.", "Paris"),
        ("  a\n b ", "a b"),
    ],
)
def test_same_after_cleaning(answer, reference):
    assert string_check(answer, reference) == 1
    assert score(Grader.STRING_CHECK, reference, answer) == 1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("find .", "find"),  # the period is an argument
        ("cd ..", "cd ."),
        ("LS", "ls"),
        ("ls -l", "ls -a"),
        ("echo `date`", "echo date"),
        ("", "ls"),
        ("", "  "),
        ("Try this:\n```\nls\n```", "ls"),
    ],
)
def test_different_after_cleaning(answer, reference):
    assert string_check(answer, reference) == 0


def test_cleaning_is_settled_after_one_time():
    for text in ("```sh\n`ls`\n```", "a.", "'x'", "`echo 'a'`"):
        once = clean(text)
        assert "\n" not in once
        assert clean(clean(once)) == clean(once)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("sudo apt install x", "apt-get install x", 0),
        ("sudo find / -name x", "find . -type f", 1),
        ("`find .`", "sudo find /", 1),
        ("findmnt", "find .", 0),
        ("", "find .", 0),
        ("sudo", "sudo", 0),
        ("", "", 0),
    ],
)
def test_first_token(answer, reference, expected):
    assert first_token(answer, reference) == expected


def test_rouge_l_is_the_librarys_on_english():
    from rouge_score.rouge_scorer import RougeScorer  # seconds to load, for this test alone

    answer, reference = "The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog"
    plain = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(plain)
    assert rouge_l(answer, reference) == pytest.approx(2 * (5 / 8) * (5 / 9) / (5 / 8 + 5 / 9))


def test_rouge_l_knows_other_alphabets():
    assert words("Größe 42, 漢字か") == ["grösse", "42", "漢", "字", "か"]
    assert rouge_l("Москва столица России", "Столица России — Москва") == pytest.approx(2 / 3)


def test_chrf_by_hand():
    """'abcd' against 'abce' up to order 4: precision = recall = (3/4 + 2/3 + 1/2 + 0) / 4."""
    assert chrf("abcd", "abce") == pytest.approx((3 / 4 + 2 / 3 + 1 / 2) / 4)
    assert chrf("xyz", "abc") == 0
    assert chrf("", "abc") == 0


def test_a_reference_reaches_every_pass_mark_of_one():
    for text in ("ls", "find . -name '*.py' -delete", "A longer sentence, with commas; and more."):
        assert all_scores(text, text) == {grader.value: 1.0 for grader in Grader}


def test_scores_stay_on_the_scale_whatever_comes_in():
    pieces = ["ls", "`", "```", "\n", ".", "sudo", " ", "'", "\u2019", "é", "漢", "\x00", "🙂"]
    source = random.Random(4)
    for _ in range(300):
        answer, reference = ("".join(source.choices(pieces, k=source.randint(0, 8))) for _ in range(2))
        assert all(0 <= value <= 1 for value in all_scores(answer, reference).values())


def test_a_step_of_sixty_rows_is_graded_in_less_than_a_second():
    source = random.Random(1)
    vocabulary = [f"word{number}" for number in range(200)]
    rows = [tuple(" ".join(source.choices(vocabulary, k=60)) for _ in range(2)) for _ in range(60)]
    begun = time.process_time()
    for answer, reference in rows:
        all_scores(answer, reference)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("ls -la", "ls -al", 1.0),  # the letters of a cluster have no order
        ("ls -l -a", "ls -la", 0.0),  # a cluster is one flag: nothing but the manual tells -la from -name
        ("find . -name x -type f", "find . -type f", 2 / 3),
        ("ls --color=auto -l", "ls -l --color", 1.0),
        ("sort -k2,2 -n", "sort -n -k2", 1.0),
        ("rm -r -r x", "rm -r x", 2 / 3),  # a multiset
        ("pwd", "pwd", 1.0),  # neither has any
        ("pwd", "ls -l", 0.0),
        ("", "pwd", 0.0),
        ("echo a-b", "echo a-b", 1.0),  # a dash inside a word is no flag
        ("`tar -xzf a.tgz`", "tar -xzf a.tgz", 1.0),
    ],
)
def test_flags_are_compared_as_multisets(answer, reference, expected):
    assert flags(answer, reference) == pytest.approx(expected)
    assert flags(reference, answer) == pytest.approx(expected) or not answer


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The answer is 12.", "12", 1.0),
        ("112", "12", 0.0),
        ("1.12", "12", 0.0),
        ("12.5", "12", 0.0),
        ("-12", "12", 0.0),
        ("It is Paris, of course.", "paris", 1.0),
        ("Parisian", "Paris", 0.0),
        ("1,024 bytes", "1024", 1.0),
        ("", "x", 0.0),
        ("anything", "", 0.0),
    ],
)
def test_contains_wants_whole_words_and_numbers(answer, reference, expected):
    assert contains(answer, reference) == expected
