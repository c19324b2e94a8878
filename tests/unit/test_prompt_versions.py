"""A step is reused by the hash of its inputs and VERSION: a prompt that changed without a new number reuses wrong results.

To change a prompt on purpose: raise the kind's version in shared/contracts/step_kinds.py and note the new fingerprint here.
"""

import pytest

from services.weak_model.worker import prompts
from shared.contracts.rows import StudentPrompt
from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import StepKind, content_hash

FIRST = StudentPrompt(id="q1", question="How do I list all files?")
AGAIN = FIRST.model_copy(update={"previous": "ls", "critique": "Hidden files are missing."})
WITH_SHOTS = FIRST.model_copy(update={"shots": [("Which command shows the date?", "date"), ("Where am I?", "pwd")]})
DOMAIN = "Linux shell"

# What each kind sends for fixed rows.
RENDERED = {
    StepKind.GUIDE: [prompts.guide_messages(DOMAIN, FIRST)],
    StepKind.ANSWER: [prompts.answer_messages(FIRST), prompts.answer_messages(WITH_SHOTS)],
    StepKind.REASON: [prompts.reason_messages(DOMAIN, FIRST), prompts.reason_messages(DOMAIN, AGAIN)],
}

# (kind, version) -> fingerprint of the above. Old lines stay: a number is never given to another prompt.
FINGERPRINTS = {
    (StepKind.GUIDE, 1): "1e7da965fc2c5f2c67712fa9a8a2ec9c9e2afb61630a6273fd142a1aa08b1ff8",
    (StepKind.ANSWER, 1): "3ef3c256a6e4372780e24de5ec0240eef264115558d29436d7e686bb88ef3d9a",
    (StepKind.REASON, 1): "14683fb4e536260396deab05299d7dd807a98317351e94e2ad60def81a6271c1",
    (StepKind.GUIDE, 2): "9f20da90b5aa9e8046f5908dd3ca605060672ce7ea053ed3af083fc55aa58074",
    (StepKind.REASON, 2): "edb064bfd67ed72a607f9e35a2db9b7b64296a3fb2f85ca23b87135f30a1e6b4",
}


@pytest.mark.parametrize("kind", RENDERED)
def test_changed_prompts_need_a_new_version(kind: StepKind):
    assert FINGERPRINTS.get((kind, STEP_KINDS[kind].version)) == content_hash(RENDERED[kind]), (
        f"raise the version of {kind}"
    )


def test_no_two_versions_share_a_fingerprint():
    assert len(set(FINGERPRINTS.values())) == len(FINGERPRINTS)
