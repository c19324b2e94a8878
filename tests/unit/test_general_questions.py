"""The general questions of the forgetting check: enough, balanced, each with a short answer that the grader takes."""

from collections import Counter

from services.orchestrator.method.selection import general_questions
from shared.contracts.data import group_key
from shared.judging.graders import contains


def test_they_are_enough_balanced_and_different():
    questions = general_questions()
    assert len(questions) >= 100
    assert set(Counter(q.category for q in questions).values()) == {15}
    assert len({group_key(q) for q in questions}) == len({q.id for q in questions}) == len(questions)


def test_their_answers_are_short_and_are_not_in_the_question():
    for question in general_questions():
        assert question.reference
        assert len(question.reference) <= 20
        assert contains(f"It is {question.reference}.", question.reference) == 1, question.id
        if question.category != "logic":  # there one of the names in the question is the answer
            assert contains(question.question, question.reference) == 0, question.id


def test_the_arithmetic_is_right():
    """Those that can be worked out from their words alone."""
    words = {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}
    checked = 0
    for question in general_questions():
        text = question.question
        for word, sign in words.items():
            left, separator, right = text.removeprefix("What is ").rstrip("?").partition(f" {word} ")
            if question.category == "arithmetic" and separator and left.isdecimal() and right.isdecimal():
                value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}[sign]
                assert str(value(int(left), int(right))) == question.reference, question.id
                checked += 1
    assert checked == 9
