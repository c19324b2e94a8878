"""The wire to the student engine's control port: model requests and the engine's state."""

from enum import IntEnum, StrEnum

from pydantic import Field

from shared.contracts.steps import Wire


class Priority(IntEnum):
    """Priority of a request in the engine, lower first; vLLM's default is 0, that of a chat.

    An engine without `--scheduling-policy priority` serves requests in the order of their arrival.
    """

    CHAT = 0
    STEP = 10
    SHADOW = 20


class ModelState(StrEnum):
    """ready: the engine serves the model.  starting: it loads the model.  waiting: another model is served first.
    failed: the engine could not be started with the model.  lent: a training has the engine's device."""

    READY = "ready"
    STARTING = "starting"
    WAITING = "waiting"
    FAILED = "failed"
    LENT = "lent"


class ModelRequest(Wire):
    """Body of POST /serve. model: a base's name or the content hash of a whole model.

    A request expires after so many seconds; a caller that still needs the model repeats it.
    """

    model: str = Field(min_length=1, max_length=200)
    seconds: float = Field(default=10.0, gt=0, le=600)


class DeviceRequest(Wire):
    """Body of POST /lend and POST /return. borrower: the process that wants the engine's device for a training.

    The request, and later the loan, expires after so many seconds unless it is repeated. held: the borrower has the device already.
    """

    borrower: str = Field(min_length=1, max_length=200)
    seconds: float = Field(default=10.0, gt=0, le=600)
    held: bool = False


class SleepMode(Wire):
    """Whether the engine frees its device by sleeping. available: None before the first start. reason: why it does not; the engine
    is stopped and started again instead."""

    available: bool | None = None
    reason: str | None = None


class EngineStatus(Wire):
    """Answer to POST /serve, /lend and /return, and to GET /status. serving: the model that is served or being loaded, or that is served
    again after a loan. sleep_mode: only where engine and training share the device in time.

    eta_seconds: until the requested model (GET: the served one) is ready, by the last starts; None: unknown.
    """

    state: ModelState
    serving: str
    eta_seconds: float | None = None
    waiting: list[str] = Field(default=[])
    reason: str | None = None
    sleep_mode: SleepMode | None = None

    def sentence(self, model: str) -> str:
        """For users who wait for `model`."""
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
            case ModelState.LENT:
                return f"a training uses the engine's device; the engine serves {short(model)} afterwards"


def short(model: str) -> str:
    """A content hash shortened; a base's name unchanged."""
    return f"{model[:12]}..." if len(model) == 64 else model
