"""A report of a job that went well: what the pages show of a finished job. The figures are made up and agree with one another."""

from typing import Any

from shared.contracts.report import Report
from tests.browser.hostile import HOSTILE

GRADERS = {"chrf": 0.0, "first_token": 0.12, "string_check": -0.18}


def _row(name: str, value: float, gain: float, win: int, loss: int) -> dict[str, Any]:
    half = 0.055
    metrics = {grader: [round(value + shift, 3), round(value + shift - half, 3), round(value + shift + half, 3)]
               for grader, shift in GRADERS.items()}  # fmt: skip
    return {
        "name": name,
        "adapter": None if name in ("base", "few_shot", "few_shot_nearest") else f"{len(name):02d}" * 32,
        "n": 80,
        "draws": 1,
        "metrics": metrics,
        "gain_over_base": [gain, round(gain - half, 3), round(gain + half, 3)] if gain else [0.0, 0.0, 0.0],
        "too_long": 0,
        "cut_off": 2,
        "missing_markers": None,
        "against_base": {"win": win, "tie": 80 - win - loss, "loss": loss} if gain else None,
        "scores": [round((value * 7 + n * 0.13) % 1, 3) for n in range(80)],
    }


def _training(first: float, last: float) -> dict[str, float]:
    return {"loss_first": first, "loss": last}


def sample_report(job_id: str) -> dict[str, Any]:
    report = {
        "object": "distillation.report",
        "version": 2,
        "job": job_id,
        "domain": f"the Linux command line {HOSTILE}",
        "student": "tiny-base",
        "method": "lora",
        "seed": 7,
        "prompts": {"strong.teach": 3},
        "primary_metric": "chrf",
        "measured": {"by": "references", "without_reference": {"dev": 0, "test": 0}},
        "rows": {"train": 180, "dev": 40, "test": 80},
        "data": None,
        "warnings": ["80 test questions show a gain of 5 points with a chance of 41 %"],
        "table": [
            _row("base", 0.281, 0.0, 0, 0),
            _row("few_shot", 0.352, 0.071, 35, 18),
            _row("few_shot_nearest", 0.412, 0.131, 44, 15),
            _row("sft_references", 0.468, 0.187, 52, 12),
            _row("distill", 0.455, 0.174, 50, 13),
            _row("iterate", 0.497, 0.216, 57, 9),
            _row("evolve", 0.506, 0.225, 58, 8),
        ],
        "final": {
            "name": "evolve",
            "adapter": "06" * 32,
            "over": {
                "base": [0.225, 0.170, 0.280],
                "few_shot": [0.154, 0.094, 0.214],
                "few_shot_nearest": [0.094, 0.032, 0.156],
                "sft_references": [0.038, -0.012, 0.088],
                "distill": [0.051, 0.004, 0.098],
                "iterate": [0.009, -0.021, 0.039],
            },
            "by_metric": {"base": {"chrf": [0.225, 0.170, 0.280]}},
            "record": {
                "base": {"win": 58, "tie": 14, "loss": 8},
                "few_shot": {"win": 49, "tie": 17, "loss": 14},
                "few_shot_nearest": {"win": 41, "tie": 21, "loss": 18},
                "sft_references": {"win": 33, "tie": 24, "loss": 23},
                "distill": {"win": 30, "tie": 31, "loss": 19},
                "iterate": {"win": 18, "tie": 47, "loss": 15},
            },
        },
        "dev": {"n": 40, "value": [0.49, 0.42, 0.56], "scores": [0.5] * 40},
        "verdict": {
            "beats_base": True,
            "beaten": ["few_shot", "few_shot_nearest"],
            "not_beaten": ["sft_references"],
            "words": "The final model beats the base and worked examples in the prompt. It cannot be told apart from SFT on the references.",
        },
        "decisions": [
            {"phase": "distill", "decision": "promoted", "gain_on_dev": [0.161, 0.098, 0.224], "against": "base", "n": 40,
             "record": {"win": 25, "tie": 9, "loss": 6}},
            {"phase": "iterate", "decision": "promoted", "gain_on_dev": [0.052, 0.011, 0.093], "against": "distill", "n": 40,
             "record": {"win": 15, "tie": 19, "loss": 6}},
            {"phase": "evolve", "decision": "undecided", "gain_on_dev": [0.012, -0.018, 0.042], "against": "iterate", "n": 40,
             "record": {"win": 9, "tie": 24, "loss": 7}},
        ],
        "judged": None,
        "judge": None,
        "promotion": {
            "state": "promoted", "against": "base", "model": "shell@1", "gain": [0.21, 0.14, 0.28], "look": 1, "level": 0.95, "n": 40,
            "record": {"win": 27, "tie": 8, "loss": 5},
            "forgetting": {"n": 120, "base": [0.42, 0.33, 0.51], "final": [0.40, 0.31, 0.49], "change": [-0.02, -0.05, 0.01],
                           "missing_markers": None, "guarded": False},
        },
        "power": {"n": 80, "chance_to_see_5_points": 0.28, "measured_spread": 0.25, "chance_by_measured_spread": 0.41,
                  "questions_for_80_percent": 196},
        "phases": {
            "pilot": {
                "questions": 16, "usable": {"weak": 15, "none": 16}, "compared": 15, "gain": [0.03, -0.04, 0.1],
                "decision": "undecided",
                "student_nll": {"n": 15, "unguided": 2.41, "guided": 1.87, "change": [-0.54, -0.71, -0.37]},
                "guidance": "weak",
            },
            "distill": {"questions": 112, "kept": 104, "dropped": {"refused": 2, "cut_off": 6}, "cut_off_guidelines": 1,
                        "answers": "teacher", "guidance": "weak", "training": _training(2.61, 0.74)},
            "iterate": {
                "rounds": [
                    {"questions": 24, "undecidable": 0, "passed": 15, "corrected": 6, "dropped_corrections": {"leaked": 3},
                     "asked_by_try": [24, 14, 11], "pass_rate": [0.417, 0.542, 0.625], "unparsed_verdicts": 0, "leaked_hints": 1,
                     "too_long": 0, "missing_markers": 0, "with_rationale": 20, "training": _training(1.12, 0.66)},
                    {"questions": 24, "undecidable": 0, "passed": 18, "corrected": 4, "dropped_corrections": {},
                     "asked_by_try": [24, 11, 7], "pass_rate": [0.542, 0.708, 0.75], "unparsed_verdicts": 0, "leaked_hints": 0,
                     "too_long": 0, "missing_markers": 0, "with_rationale": 23, "training": _training(0.98, 0.61),
                     "dev": {"gain": [0.018, -0.02, 0.056], "kept": True}},
                ]
            },
            "evolve": {"turns": [{"strategy": "beam", "questions": 24, "pairs": 17, "dropped": {"identical": 7}, "search": {},
                                  "training": {"loss_first": 0.71, "loss": 0.52, "margin_first": 0.02, "margin": 0.61,
                                               "reward_accuracy": 0.94}}]},
        },
        "teacher": {
            "pilot": {"teacher_calls": 32, "input_tokens": 8200, "output_tokens": 2900, "usd_spent": 0.021},
            "distill": {"teacher_calls": 112, "input_tokens": 31200, "output_tokens": 9800, "usd_spent": 0.081},
            "iterate": {"teacher_calls": 74, "input_tokens": 25100, "output_tokens": 4300, "usd_spent": 0.052},
        },
        "timings": {"pilot": {"busy_seconds": 64.0, "steps": 8}, "distill": {"busy_seconds": 412.0, "steps": 13},
                    "iterate": {"busy_seconds": 388.0, "steps": 22}, "evolve": {"busy_seconds": 301.0, "steps": 4},
                    "evaluate": {"busy_seconds": 290.0, "steps": 24}},
        "samples": [
            {"question": "Count the lines of notes.txt.", "reference": "wc -l notes.txt", "base": "cat notes.txt", "final": "wc -l notes.txt"},
            {"question": HOSTILE, "reference": HOSTILE, "base": HOSTILE, "final": HOSTILE},
        ],
    }  # fmt: skip
    return Report.model_validate(report).model_dump(mode="json")
