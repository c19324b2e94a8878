"""The jobs that are struck: all three phases for the drill, the first alone for its short form."""

from typing import Any

FULL: dict[str, Any] = {
    "domain": "numbers",
    "primary_metric": "chrf",
    "guidance": "weak",
    "batch_size": 4,
    "answer_tokens": 16,
    "adapter": {"rank": 4, "alpha": 8, "max_length": 256},
    "teacher": {"max_tokens": 32, "ground": False},
    "judge": {"max_tokens": 64},
    "pilot": {"questions": 8},
    "distill": {"questions": 60, "guideline_tokens": 16, "epochs": 4, "learning_rate": 1e-3},
    "iterate": {"questions": 40, "tries": 2, "on_failure": "teacher", "epochs": 4, "learning_rate": 1e-3},
    "evolve": {"questions": 24, "beam_width": 2, "search_batch": 2, "epochs": 4, "learning_rate": 1e-3},
    "evaluation": {
        "shots": 2,
        "forgetting": 8,
        "graders": ["chrf"],
        "baselines": ["few_shot"],
        "judged_questions": 20,
    },
}
SHORT: dict[str, Any] = FULL | {
    "phases": ["distill"],
    "batch_size": 2,
    "pilot": {"questions": 4},
    "distill": {"questions": 16, "guideline_tokens": 16, "epochs": 2, "learning_rate": 1e-3},
    "evaluation": {"forgetting": 0, "graders": ["chrf"], "baselines": [], "dev_questions": 4, "test_questions": 4},
}


def in_batches(job: dict[str, Any]) -> dict[str, Any]:
    """The same by the provider's batch API."""
    return job | {role: job[role] | {"batch": True} for role in ("teacher", "judge")}
