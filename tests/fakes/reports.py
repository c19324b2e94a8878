"""Reports of jobs that never ran. REPORT: as the first release wrote it; WHOLE: with more parts, and markup in its texts."""

ROW = {"metrics": {"chrf": [0.5, 0.4, 0.6], "string_check": [0.1, 0.05, 0.2]}, "adapter": None, "n": 60}
REPORT = {
    "object": "distillation.report", "job": "ftjob-1", "domain": "shell", "student": "tiny", "seed": 0, "rows": {"test": 60},
    "primary_metric": "chrf",
    "table": [
        ROW | {"name": "base", "gain_over_base": [0.0, -0.06, 0.06]},
        ROW | {"name": "sft_references", "gain_over_base": [0.3, 0.2, 0.4], "against_base": {"win": 40, "tie": 15, "loss": 5}},
        ROW | {"name": "evolve", "gain_over_base": [-0.25, -0.35, -0.15]},
    ],
    "final": {"name": "evolve", "adapter": None, "over": {"base": [-0.25, -0.35, -0.15], "iterate": [0.0, -0.1, 0.1]}},
    "decisions": [{"phase": "evolve", "decision": "rejected", "gain_on_dev": [-0.2, -0.3, -0.1]}],
    "phases": {
        "distill": {"kept": 90, "questions": 112, "dropped": {"refused": 22}},
        "iterate": {"rounds": [{"pass_rate": [0.25, 0.5], "questions": 24, "corrected": 12, "leaked_hints": 3}]},
        "evolve": {"turns": [{"pairs": 14, "questions": 24, "dropped": {"identical": 10}}]},
    },
    "teacher": {"iterate": {"teacher_calls": 30, "input_tokens": 700, "output_tokens": 80}},
    "timings": {"evolve": {"busy_seconds": 12.4, "steps": 2}, "iterate": {"busy_seconds": 91.0, "steps": 3}, "later": {"busy_seconds": 1.0, "steps": 1}},
    "promotion": {"model": None, "state": "rejected", "against": "base"},
    "power": {"n": 60, "chance_to_see_5_points": 0.15},
}  # fmt: skip

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>\'"&</pre></svg>'
WHOLE = REPORT | {
    "domain": EVIL,
    "method": "lora",
    "seed": 7,
    "verdict": {"beats_base": False, "beaten": [], "not_beaten": [], "words": "Nothing is told apart from the base."},
    "warnings": ["few questions"],
    "samples": [{"question": EVIL, "reference": EVIL, "base": EVIL, "final": EVIL}],
    "phases": REPORT["phases"]
    | {
        "iterate": {
            "rounds": [
                {"pass_rate": [0.25, 0.5], "questions": 24, "corrected": 12, "leaked_hints": 3,
                 "training": {"loss_first": 2.5, "loss": 1.25}},
                {"pass_rate": [0.75], "questions": 24, "corrected": 12, "leaked_hints": 3, "training": None},
            ]
        },
        "evolve": {
            "turns": [
                {"pairs": 14, "questions": 24, "dropped": {}, "search": {"mean_tokens_chosen": 10.0, "mean_tokens_rejected": 12.5},
                 "training": {"margin_first": -0.5, "margin": 0.75, "reward_accuracy": 0.9}},
            ]
        },
    },
}  # fmt: skip
