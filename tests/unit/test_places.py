"""Where a fault is, in the words of who wrote the value."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from shared.contracts.distillation import Hyperparameters
from shared.contracts.error_location import place_of


class Inner(BaseModel):
    rank: int


class Outer(BaseModel):
    hyperparameters: Hyperparameters | None = None
    either: list[Inner | dict[str, int]] = []
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"hyperparameters": {"learning_rate_multiplier": {}}}, "hyperparameters.learning_rate_multiplier"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"colour": 1}}, "hyperparameters.colour"),
        ({"either": [{"rank": 1}, {"rank": "x"}]}, "either.1.rank"),
        ({"either": [{}, 5]}, "either.1"),
        ({"either": {}}, "either"),
        ({"inner": {}}, "inner.rank"),
        ([], None),
    ],
)
def test_the_place_of_a_fault_is_one_of_the_value(value: Any, place: str | None):
    with pytest.raises(ValidationError) as fault:
        Outer.model_validate(value)
    assert place_of(fault.value.errors()[0], value) == place
