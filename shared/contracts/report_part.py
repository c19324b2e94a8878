"""What every part of a report is made of: the base class of its models, an estimate with its interval, a decision."""

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

Decision = Literal["promoted", "undecided", "rejected"]


class Triple(NamedTuple):
    """An estimate with its interval; a JSON array [value, low, high]. Of no width: the model is compared with itself.

    f"{triple:+.3f}" is "+0.100 [+0.050, +0.150]".
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


NOTHING = Triple(0.0, 0.0, 0.0)


class ReportPart(BaseModel):
    """An optional field that was not set is left out of the JSON; one that was set to None is null."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler):
        fields = serialize(self)
        return {name: value for name, value in fields.items() if value is not None or name in self.model_fields_set}
