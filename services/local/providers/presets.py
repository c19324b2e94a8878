"""Known providers as data (presets.toml): address, key variable, limits, and prices with the month in which they were so."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from shared.contracts.error_location import unknown_name
from shared.contracts.json_types import Json


class Preset(BaseModel):
    """needs: what the user must give. key: the usual name of the variable with the key; None: there is no key.

    models: name -> USD per million tokens of input, output and (where it is known) cached input; the first is the default.
    as_of: the month of these prices. options: other fields of the entry. note: what its user should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    base_url: str
    needs: list[Literal["base_url", "model"]] = []
    key: str | None = None
    key_is_optional: bool = False
    prices: str | None = None
    as_of: str | None = None
    models: dict[str, list[float]] = {}
    options: Json = {}
    note: str | None = None

    def priced(self, model: str) -> dict[str, float]:
        """The price fields of a model; none where they are not known."""
        return dict(
            zip(("price_input", "price_output", "price_cached_input"), self.models.get(model, []), strict=False)
        )


@lru_cache
def presets() -> dict[str, Preset]:
    content = tomllib.loads((Path(__file__).parent / "presets.toml").read_text())
    return {name: Preset.model_validate(entry) for name, entry in content.items()}


def preset(name: str) -> Preset:
    """Raises NotFound that names the nearest one."""
    known = presets()
    if name not in known:
        raise unknown_name("preset", name, known)
    return known[name]
