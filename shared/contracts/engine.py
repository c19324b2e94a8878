"""The wire to the student engine's keeper: which model its one server is to serve, and how things stand."""

from enum import IntEnum, StrEnum

from pydantic import Field

from shared.contracts.steps import Wire


class Priority(IntEnum):
    """Who is next in one engine, lower first. What is not said is vLLM's own 0: a chat, for which somebody waits.

    An engine without `--scheduling-policy priority` takes all of them in the order of their coming.
    """

    CHAT = 0
    STEP = 10
    SHADOW = 20


class ModelState(StrEnum):
    """ready: ask the engine now.  starting: the model is being loaded.  waiting: another one is at work before it.
    failed: the engine could not be started with it."""

    READY = "ready"
    STARTING = "starting"
    WAITING = "waiting"
    FAILED = "failed"


class ModelRequest(Wire):
    """Body of POST /serve. model: a base's name or the content hash of a whole model.

    A wish is forgotten after so many seconds: whoever still wants the model asks again.
    """

    model: str = Field(min_length=1, max_length=200)
    seconds: float = Field(default=10.0, gt=0, le=600)


class EngineStatus(Wire):
    """Answer to POST /serve and GET /status. serving: the model that is served or being loaded.

    eta_seconds: until the model that was asked for (GET: the served one) is ready, by the last starts; None: not known.
    """

    state: ModelState
    serving: str
    eta_seconds: float | None = None
    waiting: list[str] = Field(default=[])
    reason: str | None = None

    def sentence(self, model: str) -> str:
        """For people who wait for `model`."""
        about = "" if self.eta_seconds is None else f", about {self.eta_seconds:.0f} s"
        match self.state:
            case ModelState.READY:
                return f"the engine serves {short(model)}"
            case ModelState.STARTING:
                return f"the engine loads {short(model)}{about}"
            case ModelState.WAITING:
                return f"the engine is at work with {short(self.serving)} and swaps to {short(model)} afterwards"
            case ModelState.FAILED:
                return f"the engine cannot serve {short(model)}: {self.reason}"


def short(model: str) -> str:
    """A content hash is cut; a base's name stays whole."""
    return f"{model[:12]}..." if len(model) == 64 else model
