"""The teacher's prompt: what it holds, and that a change of its words raises the step's version."""

import pytest

from services.strong_model.worker.prompts import teach_messages, wants_bare_answer
from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import RATIONALE_VERSION, StepKind, content_hash

# version -> fingerprint of the prompts below. A changed prompt needs a new version, or finished steps would be reused.
FINGERPRINTS = {
    1: "94b26eb1279fc877f02c576108679be0eb864b80dd32164561c3e44443ecdcac",
    2: "e22ef20bf593251894755297ac9d13da18366bcb2d42fc02e282eb0795359ee4",
}
WITH_RATIONALE = {
    1: "d05d074636182d1b0997be7433615bf3049f13236240badb99a57e3c80b89fbf",
    2: "da4ed7a0b9167e778e7ad63bf471cfbaa04bcdebb00545db9121d005eb4ff020",
}

CASES = [
    ("Linux shell", "List all files.", "Think of ls.", "ls -a", True),
    ("Linux shell", "List all files.", "Think of ls.", "ls -a", False),
    ("Linux shell", "List all files.", None, None, True),
    ("machine learning", "Why does dropout help?", "Name co-adaptation.", "It keeps units\nfrom co-adapting.", True),
]


def text(*case) -> str:
    return "\n".join(message["content"] for message in teach_messages(*case))


def test_changed_prompts_need_a_new_version():
    fingerprint = content_hash([teach_messages(*case) for case in CASES])
    assert FINGERPRINTS.get(STEP_KINDS[StepKind.TEACH].version) == fingerprint, (
        "raise the version of StepKind.TEACH and note the fingerprint"
    )


def test_a_changed_prompt_for_rationales_needs_a_new_version():
    fingerprint = content_hash([teach_messages(*case, rationale=True) for case in CASES])
    assert WITH_RATIONALE.get(RATIONALE_VERSION) == fingerprint, "raise RATIONALE_VERSION and note the fingerprint"


def test_a_rationale_is_asked_for_before_the_answer():
    shown = "\n".join(message["content"] for message in teach_messages(*CASES[0], rationale=True))
    assert "how the answer is reached" in shown
    assert '"Answer:"' in shown
    assert "Reply with the answer only" not in shown


def test_the_prompt_is_pure():
    assert teach_messages(*CASES[0]) == teach_messages(*CASES[0])


def test_everything_given_is_shown():
    shown = text(*CASES[0])
    assert all(part in shown for part in ("Linux shell", "List all files.", "Think of ls.", "ls -a"))


def test_without_ground_the_reference_is_not_shown_but_its_form_counts():
    shown = text(*CASES[1])
    assert "ls -a" not in shown
    assert "answer only" in shown


def test_without_guideline_no_notes_are_mentioned():
    assert "notes" not in text(*CASES[2])


def test_long_references_ask_for_own_words():
    shown = text(*CASES[3])
    assert "own words" in shown
    assert "answer only" not in shown


@pytest.mark.parametrize(
    ("reference", "bare"),
    [("ls -a", True), (" 42 \n", True), ("a\nb", False), ("x" * 200, False), ("", False), ("  ", False), (None, False)],
)
def test_a_short_single_line_asks_for_the_bare_answer(reference, bare):
    assert wants_bare_answer(reference) is bare
