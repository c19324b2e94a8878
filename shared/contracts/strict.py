"""What every posted body is made of."""

from pydantic import BaseModel, ConfigDict

NO_NUL = r"^[^\x00]*$"  # PostgreSQL cannot compare a text that holds one


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
