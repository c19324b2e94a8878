"""What a base model can do here, and why not: the result of the capability probe.

The probe runs in the trainer's environment; this is what other processes read of it. Advice for people and for the checks when a
job is posted, never an input of a step.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from shared.contracts.prompt_profile import PromptProfile

PROBE = 2  # raise it when the probe finds something else for the same base


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Ability(Frozen):
    """ok: None when it could not be tried here. reason: what was seen; remedy: what to do instead. Both empty when ok."""

    ok: bool | None
    reason: str = ""
    remedy: str = ""


class Capabilities(Frozen):
    """identity: of the folder's content. libraries: versions that the result depends on.

    parameters: of the text model, all experts included. bytes: of the weights' files. context: tokens of question and answer together; None: unlimited.
    linear: names that an adapter may target. targets: those that "all-linear" stands for.
    rank_factor: the engine sees an adapter's rank so many times (experts side by side).
    attention: the implementation that training uses. shares_cache: the searches of phase 3 start from one computed prompt.
    tried: toy steps ran on the real weights, on a shrunken model of the same architecture, or not at all.
    """

    probe: int = PROBE
    libraries: dict[str, str] = {}
    base: str
    identity: str
    model_type: str
    architecture: str
    parameters: int = 0
    bytes: int = 0
    hidden: int = 0
    intermediate: int = 0
    context: int | None = None
    layers: int = 0
    experts: int = 0
    hybrid: bool = False
    attention: str = "sdpa"
    shares_cache: bool = True
    linear: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    rank_factor: int = 1
    tried: Literal["real", "shrunken", "none"] = "none"
    load: Ability
    train_lora: Ability
    train_full: Ability
    dpo: Ability
    search: Ability
    serve: Ability
    train_4bit: Ability = Ability(ok=None)  # tried where bitsandbytes is installed
    prompts: PromptProfile | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def refusal(self) -> Ability | None:
        """Why this base is of no use as a student; None where it is."""
        useless = (self.load, self.serve)
        if self.train_lora.ok is False and self.train_full.ok is False:
            useless = (*useless, self.train_lora)
        return next((ability for ability in useless if ability.ok is False), None)
