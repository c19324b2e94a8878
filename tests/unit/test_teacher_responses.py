"""What the answer alone does not show: echoes of question and guideline, and scripts that nobody asked in."""

import pytest

from services.orchestrator.method.selection import scripts
from services.orchestrator.method.teacher import is_foreign, with_checked_outcome
from shared.contracts.data import Question
from shared.contracts.rows import TeacherResponse

GUIDELINE = "First name the command, then explain which option prints hidden files too."
LATIN = frozenset({"LATIN"})


def outcome(
    answer: str, reference: str | None = None, guideline: str | None = None, question: str = "Question 0?"
) -> str:
    lesson = TeacherResponse(id="q", answer=answer, finish_reason="stop", outcome="ok")
    return with_checked_outcome(
        lesson, Question(id="q", question=question, reference=reference), guideline, LATIN
    ).outcome


def test_an_answer_that_repeats_its_question_teaches_nothing():
    assert outcome("Question 0!") == "repeats_question"
    assert outcome("ls", question="ls", reference="ls") == "ok", "the reference says so"


@pytest.mark.parametrize("answer", [GUIDELINE, GUIDELINE.upper(), GUIDELINE + "!"])
def test_a_copied_guideline_is_no_answer(answer: str):
    assert outcome(answer, guideline=GUIDELINE) == "copies_guideline"
    assert outcome(answer) == "ok", "there was no guideline to copy"
    assert outcome(answer, reference=GUIDELINE, guideline=GUIDELINE) == "ok", "the student knew the answer already"


def test_following_a_guideline_or_sharing_a_short_one_is_no_copy():
    assert outcome("ls -a prints hidden files too", guideline=GUIDELINE) == "ok"
    assert outcome("ls -a", guideline="ls -a") == "ok"


@pytest.mark.parametrize(
    ("answer", "question", "reference", "expected"),
    [
        ("列出所有文件，包括隐藏文件，使用这个命令", "How do I list all files?", None, "other_language"),
        ("Команда показывает все файлы", "How do I list all files?", "ls -a", "other_language"),
        ("Команда показывает все файлы", "Translate: the command shows all files", "Команда показывает файлы", "ok"),
        ("ls -a", "隠しファイルも一覧するには？", "ls -a", "ok"),
        ("ls -a --color", "隠しファイルも一覧するには？", None, "ok"),  # the job's references are Latin
        ("ファイルを一覧するコマンドです", "隠しファイルも一覧するには？", None, "ok"),
        ("The angle is α, then β and γ", "Which angle?", None, "ok"),
        ("42 %", "Which share?", None, "ok"),
    ],
)
def test_an_answer_in_a_script_of_neither_question_nor_reference(answer, question, reference, expected):
    assert outcome(answer, reference, question=question) == expected


def test_what_was_wrong_already_stays_so():
    lesson = TeacherResponse(id="q", answer="Команда показывает файлы", finish_reason="length", outcome="cut_off")
    assert with_checked_outcome(lesson, Question(id="q", question="Which?"), None, LATIN) is lesson


def test_scripts_by_their_letters():
    assert scripts(["ls -a", None, "42"]) == {"LATIN"}
    assert scripts(["ひらがなカタカナ漢字"]) == {"CJK"}
    assert not is_foreign("", LATIN)
