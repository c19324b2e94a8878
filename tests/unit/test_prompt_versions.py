"""A step is reused by the hash of its inputs and VERSION: a prompt that changed without a new number reuses wrong results.

To change a prompt on purpose: raise the kind's version in shared/contracts/step_kinds.py and note the new fingerprint here.
"""

import pytest

from services.strong_model.worker.proposals import propose_messages
from services.strong_model.worker.questions import ask_messages, check_messages
from services.weak_model.worker import prompts
from shared.contracts.coverage import Proposal, ProposeParams
from shared.contracts.imports import AskParams, Passage
from shared.contracts.rows import StudentPrompt
from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import StepKind, content_hash

FIRST = StudentPrompt(id="q1", question="How do I list all files?")
AGAIN = FIRST.model_copy(update={"previous": "ls", "critique": "Hidden files are missing."})
WITH_SHOTS = FIRST.model_copy(update={"shots": [("Which command shows the date?", "date"), ("Where am I?", "pwd")]})
DOMAIN = "Linux shell"
ASKING = AskParams(teacher="t", domain=DOMAIN, per_passage=3, max_tokens=9, seed=0)
PASSAGE = Passage(id="a#1", document="a", text="ls lists files.", heading="Files")
PROPOSING = ProposeParams(teacher="t", domain=DOMAIN, max_tokens=9, temperature=0.8, seed=0)
TOPICS = Proposal(id="1", count=3)
QUESTIONS = Proposal(id="2", count=4, topic="Files", level="basic")

# What each kind sends for fixed rows.
RENDERED = {
    StepKind.GUIDE: [prompts.guide_messages(DOMAIN, FIRST)],
    StepKind.ANSWER: [prompts.answer_messages(FIRST), prompts.answer_messages(WITH_SHOTS)],
    StepKind.REASON: [prompts.reason_messages(DOMAIN, FIRST), prompts.reason_messages(DOMAIN, AGAIN)],
    StepKind.SAMPLE: [prompts.answer_messages(FIRST)],
    StepKind.ASK: [ask_messages(ASKING, PASSAGE), check_messages(PASSAGE, "What does ls do?")],
    StepKind.PROPOSE: [
        propose_messages(PROPOSING, wanted.model_copy(update=more))
        for wanted in (TOPICS, QUESTIONS)
        for more in (
            {},
            {"known": ["a", "b"]},
            *({"material": ["c"], "origin": origin} for origin in ("passage", "log")),
        )
    ],
}

# (kind, version) -> fingerprint of the above. Old lines stay: a number is never given to another prompt.
FINGERPRINTS = {
    (StepKind.GUIDE, 1): "1e7da965fc2c5f2c67712fa9a8a2ec9c9e2afb61630a6273fd142a1aa08b1ff8",
    (StepKind.ANSWER, 1): "3ef3c256a6e4372780e24de5ec0240eef264115558d29436d7e686bb88ef3d9a",
    (StepKind.REASON, 1): "14683fb4e536260396deab05299d7dd807a98317351e94e2ad60def81a6271c1",
    (StepKind.GUIDE, 2): "9f20da90b5aa9e8046f5908dd3ca605060672ce7ea053ed3af083fc55aa58074",
    (StepKind.SAMPLE, 1): "bc956f73d12555aadb71432e8e2a07c54cd23b10e2857fbcafa64f625c2f67a5",
    (StepKind.ASK, 1): "75bc2e35dfaf3fe63363428663e3b5e47c4b4f5eb6604eda30892597dbb1a9eb",
    (StepKind.PROPOSE, 1): "e8805773157bb3ad555f013700762e9e1930df9a924d2846de9474042a948910",
    (StepKind.REASON, 2): "edb064bfd67ed72a607f9e35a2db9b7b64296a3fb2f85ca23b87135f30a1e6b4",
}


@pytest.mark.parametrize("kind", RENDERED)
def test_changed_prompts_need_a_new_version(kind: StepKind):
    assert FINGERPRINTS.get((kind, STEP_KINDS[kind].version)) == content_hash(RENDERED[kind]), (
        f"raise the version of {kind}"
    )


def test_no_two_versions_share_a_fingerprint():
    assert len(set(FINGERPRINTS.values())) == len(FINGERPRINTS)
