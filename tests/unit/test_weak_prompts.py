"""What the student's prompts must hold."""

from services.weak_model.worker.prompts import answer_messages, guide_messages, reason_messages
from shared.contracts.answer_format import MARKER, student_messages
from shared.contracts.rows import StudentPrompt

ROW = StudentPrompt(id="q", question="How do I list all files?")


def texts(messages: list[dict[str, str]]) -> str:
    return "\n".join(message["content"] for message in messages)


def test_a_guideline_is_asked_for_instead_of_an_answer():
    text = texts(guide_messages("Linux shell", ROW))
    assert "expert in Linux shell" in text
    assert ROW.question in text
    assert "Do not answer" in text
    assert "guideline" in text


def test_the_bare_question_is_what_training_and_chat_send():
    assert answer_messages(ROW) == student_messages(ROW.question)


def test_worked_examples_stand_before_the_question_as_turns():
    messages = answer_messages(ROW.model_copy(update={"shots": [("a?", "A"), ("b?", "B")]}))
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [m["content"] for m in messages[1:]] == ["a?", "A", "b?", "B", ROW.question]


def test_reasoning_asks_for_the_marker_that_the_parser_looks_for():
    text = texts(reason_messages("Linux shell", ROW))
    assert f'"{MARKER.strip()}"' in text
    assert "step by step" in text
    assert "attempt" not in text
    assert "advice" not in text


def test_a_retry_shows_the_last_attempt_and_the_critique():
    text = texts(reason_messages("Linux shell", ROW.model_copy(update={"previous": "ls", "critique": "Hidden ones?"})))
    assert text.index("step by step") < text.index(ROW.question) < text.index("ls") < text.index("Hidden ones?")
