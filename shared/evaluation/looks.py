"""How sure a promotion must be when the same dev split has decided before.

Each job that trains on a dataset and asks whether its model beats the served one looks at the same dev rows again. At 95 % a model
without a gain is promoted by chance in 2.5 % of the looks, so twenty such jobs promote at least once in 40 %.
"""

from math import pi

from shared.evaluation.statistics import LEVEL

TOTAL = 0.05  # chance of any promotion without a gain, over all looks at one dev split


def look_level(look: int) -> float:
    """The two-sided level of the interval that decides the look-th time, from 1. The chances of the looks are TOTAL * 6 / (pi * look)^2,
    which sum to TOTAL (Bonferroni over an endless series); none is larger than that of a 95 % interval."""
    chance = min((1 - LEVEL) / 2, TOTAL * 6 / (pi * look) ** 2)
    return 1 - 2 * chance
