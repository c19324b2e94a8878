"""The teacher's part as plain functions: outcomes, cleaning, and a step's rows against a real gateway-shaped server."""

import pytest

from services.strong_model.worker.reply_text import clean
from services.strong_model.worker.teach import ResponseOutcome, outcome_of, tally, teacher_response
from shared.contracts.rows import TeacherInput
from shared.platform.gateway_client import ChatReply


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with this request.",
        "I am unable to answer this.",
        "As an AI language model, I have no opinion.",
        "I cannot provide that information.",
        "Unfortunately, I do not have access to it.",
        "Sorry, I won't do that.",
        "I apologize, but I'm not able to say.",
    ],
)
def test_refusals_are_seen_at_the_beginning(text):
    assert outcome_of(text, "stop") is ResponseOutcome.REFUSED


@pytest.mark.parametrize(
    "text",
    [
        "Use grep -v; I can't think of a shorter way.",
        "You cannot assign to a tuple; build a new one.",
        "I can think of two ways: a list or a set.",
        "Sorry is raised as an exception class here.",
        "ls -la",
        "As an aid to memory, use a dictionary.",
    ],
)
def test_answers_that_only_sound_like_refusals_are_kept(text):
    assert outcome_of(text, "stop") is ResponseOutcome.OK


def test_the_finish_reason_goes_before_the_text():
    assert outcome_of("half an ans", "length") is ResponseOutcome.CUT_OFF
    assert outcome_of("", "length") is ResponseOutcome.CUT_OFF
    assert outcome_of("", "content_filter") is ResponseOutcome.REFUSED
    assert outcome_of("", "stop") is ResponseOutcome.EMPTY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```bash\nls -la\n```", "ls -la"),
        ("```\nls\nwc -l\n```\n", "ls\nwc -l"),
        ("`du -sh .`", "du -sh ."),
        ("echo `date`", "echo `date`"),
        ("`a` and `b`", "`a` and `b`"),
        ("Run\n```\nls\n```", "Run\n```\nls\n```"),
        ("```\na\n```\nor\n```\nb\n```", "```\na\n```\nor\n```\nb\n```"),
        ("<think>ls? find?</think>\n\nfind .", "find ."),
        ("  plain  ", "plain"),
        ("``````", "``````"),
    ],
)
def test_one_surrounding_fence_is_taken_off_and_no_more(text, expected):
    assert clean(text) == expected


def test_a_response_names_the_call_that_brought_it():
    reply = ChatReply("`pwd`", "stop", "call-1", 3, 1, cached=False)
    response = teacher_response(TeacherInput(id="7", question="where am I?"), reply)
    assert (response.id, response.answer, response.outcome, response.call_id) == ("7", "pwd", "ok", "call-1")


@pytest.mark.parametrize(
    ("text", "finish", "parts"),
    [
        ("Names are listed by ls.\n**Answer:** `ls`", "stop", ("Names are listed by ls.", "ls", "ok")),
        ("Names are listed by ls.\nAnswer: ls", "length", ("Names are listed by ls.", "ls", "cut_off")),
        ("ls", "stop", (None, "ls", "no_rationale")),
        ("Answer: ls", "stop", (None, "ls", "no_rationale")),
        ("I'm sorry, but I can't help with that.", "stop", (None, "I'm sorry, but I can't help with that.", "refused")),
    ],
)
def test_a_rationale_stands_apart_from_the_answer_and_is_not_missing(text, finish, parts):
    reply = ChatReply(text, finish, "call", 1, 1, cached=False)
    response = teacher_response(TeacherInput(id="q", question="?"), reply, rationale=True)
    assert (response.rationale, response.answer, response.outcome) == parts
    assert response.completion == (f"{parts[0]}\nAnswer: {parts[1]}" if parts[0] else parts[1])


def test_the_tally_names_every_outcome():
    reply = ChatReply("", "stop", None, 0, 0, cached=False)
    row = TeacherInput(id="1", question="q")
    assert tally([teacher_response(row, reply), teacher_response(row, reply._replace(text="x"))]) == {
        "ok": 1,
        "refused": 0,
        "empty": 1,
        "cut_off": 0,
    }
