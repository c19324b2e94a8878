"""How many students a job measures, and how many calls that can take where a judge measures them. Pure."""

from shared.contracts.distillation import Baseline, Distillation, Phase

ORDERS, REPAIRED = 2, 2  # a comparison is asked in both orders; a reply that is no verdict is asked for once more


def students_measured(spec: Distillation, references: bool) -> tuple[int, int]:
    """How many students of the job, besides the base, are measured at most on dev and on test. references: whether train has
    any, without which there are no baselines."""
    several = {Phase.ITERATE: spec.iterate.rounds, Phase.EVOLVE: spec.evolve.turns}
    rounds, turns = (n if phase in spec.phases and n > 1 else 0 for phase, n in several.items())
    settings = spec.evaluation
    draws = settings.shot_seeds - 1 if Baseline.FEW_SHOT in settings.baselines else 0
    baselines = len(settings.baselines) + draws if references else 0
    before_rounds = int(rounds > 0)
    return len(spec.phases) + rounds + before_rounds, len(spec.phases) + rounds + turns + baselines


def compared_with_the_base(spec: Distillation, dev: int, test: int, references: bool) -> list[tuple[int, int]]:
    """(questions, students) of dev and of test, by the rows that these splits have; on dev the version that is served is one
    of them."""
    caps = (spec.evaluation.dev_questions, spec.evaluation.test_questions)
    on_dev, on_test = (min(n, cap or n) for n, cap in zip((dev, test), caps, strict=True))
    before_promotion, in_the_table = students_measured(spec, references)
    return [(on_dev, before_promotion + 1), (on_test, in_the_table)]


def measuring_calls(spec: Distillation, dev: int, test: int, references: bool) -> int:
    """The most calls that measuring by the judge takes: every answer differs from the base's, every reply is asked for
    twice."""
    found = compared_with_the_base(spec, dev, test, references)
    return sum(questions * students for questions, students in found) * ORDERS * REPAIRED
