"""The device while a training runs, borrowed from the engine that serves on it (METEOR_DEVICE_SHARING=time)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import httpx

from services.trainer.settings import TrainerSettings
from shared.contracts.device import DeviceSharing
from shared.contracts.engine import DeviceRequest, EngineStatus, ModelState
from shared.contracts.errors import FatalError, Postponed
from shared.platform.http_client import internal_client
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
REPEAT_S, LOAN_S = 2.0, 20.0  # a loan that is not repeated for LOAN_S has ended
UNAVAILABLE_S, CALL_S = 60.0, 10.0
AGAIN_S = 15.0


class EngineUnavailable(Postponed):
    """The engine's control port does not answer. The step rests; that is no failed attempt."""

    code = "engine_unavailable"

    def __init__(self, message: str):
        super().__init__(message, again_in_s=AGAIN_S)


def check(platform: PlatformSettings, settings: TrainerSettings) -> None:
    """Raises FatalError where the device is to be borrowed and nobody can be asked for it."""
    if _takes_turns(platform, settings) and not settings.engine_control_url:
        raise FatalError(
            "METEOR_DEVICE_SHARING is time, and METEOR_TRAINER_ENGINE_CONTROL_URL does not say where the engine lends its device; set it to "
            "the engine's control port, or set METEOR_DEVICE_SHARING=memory",
            code="trainer_settings",
        )


@asynccontextmanager
async def borrowed(
    borrower: str, platform: PlatformSettings, settings: TrainerSettings, on_wait: Callable[[str], None]
) -> AsyncGenerator[None]:
    """Holds the engine's device while the block runs. borrower: names the attempt, so that an earlier one does not return a later one's loan.
    on_wait: receives the reason.

    Raises FatalError where the engine does not lend, EngineUnavailable where its control port does not answer.
    """
    if not _takes_turns(platform, settings):
        yield
        return
    check(platform, settings)
    token = platform.internal_token.get_secret_value()
    async with internal_client(settings.engine_control_url, token, timeout_s=CALL_S) as http:
        loan = DeviceLoan(http, borrower)
        try:
            await loan.wait(on_wait)
            repeating = asyncio.create_task(loan.repeat())
            try:
                yield
            finally:
                repeating.cancel()
                with suppress(asyncio.CancelledError):
                    await repeating
        finally:
            await loan.end()


def _takes_turns(platform: PlatformSettings, settings: TrainerSettings) -> bool:
    """A step on a Ray cluster has a device of its own."""
    return platform.device_sharing is DeviceSharing.TIME and settings.launcher == "local"


class DeviceLoan:
    """http: of the engine's control port."""

    def __init__(self, http: httpx.AsyncClient, borrower: str):
        self._http, self._borrower = http, borrower

    async def wait(self, on_wait: Callable[[str], None]) -> None:
        """Until the device is ours."""
        answered = time.monotonic()
        while True:
            try:
                status = await self._ask("/lend")
                answered = time.monotonic()
                if status.state is ModelState.LENT:
                    return
                on_wait("the engine's device (GPU): the engine lends it when its running requests have ended")
            except (httpx.HTTPError, ValueError) as error:
                if time.monotonic() - answered > UNAVAILABLE_S:
                    message = f"the engine's control port at {self._http.base_url} does not answer: {error!r}; is the engine running?"
                    raise EngineUnavailable(message) from error
                on_wait("the engine's device (GPU): the engine's control port does not answer")
            await asyncio.sleep(REPEAT_S)

    async def repeat(self) -> None:
        """So that the loan goes on, forever. An engine that was started anew learns of it."""
        reached = True
        while True:
            await asyncio.sleep(REPEAT_S)
            try:
                status = await self._ask("/lend", held=True)
                lost = status.state is not ModelState.LENT
                reason = f"the engine answers {status.state.value}" if lost else ""
            except (httpx.HTTPError, ValueError, FatalError) as error:
                reason = repr(error)
            if reason and reached:
                log.warning("the engine did not confirm that the device is lent; the training continues", reason=reason)
            reached = not reason

    async def end(self) -> None:
        """Also where it was not granted yet. What is not returned expires."""
        with suppress(httpx.HTTPError, ValueError, FatalError):
            await self._ask("/return")

    async def _ask(self, path: str, held: bool = False) -> EngineStatus:
        """Raises FatalError for a refusal."""
        request = DeviceRequest(borrower=self._borrower, seconds=LOAN_S, held=held)
        answer = await self._http.post(path, json=request.model_dump(mode="json"))
        if answer.is_client_error:
            raise FatalError(f"the engine does not lend its device: {_words(answer)}", code="device_not_lent")
        answer.raise_for_status()
        return EngineStatus.model_validate(answer.json())


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"HTTP {answer.status_code}"
