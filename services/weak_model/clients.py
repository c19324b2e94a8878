"""The worker's way to an engine: chat completions through OpenAI's SDK."""

from typing import NamedTuple

import openai
import stamina
from openai.types.chat import ChatCompletion

from shared.contracts.errors import FatalError, TransientError
from shared.contracts.steps import Sampling
from shared.platform.tls import tls

TOO_LONG = "too_long"
CONNECT_S = 5.0
KEYLESS = "none"  # the SDK wants a key even where the server asks for none


class Completion(NamedTuple):
    """finish_reason as OpenAI's, or "too_long": the prompt alone exceeds the model's context, so nothing was written."""

    text: str
    finish_reason: str
    tokens: int = 0
    prompt_tokens: int = 0


def _is_brief(error: Exception) -> bool:
    """Worth another try within the step: the engine is away, starting, or died under this call."""
    if isinstance(error, openai.APITimeoutError):
        return False  # it took the whole time allowed for a row already
    return isinstance(error, openai.APIConnectionError | openai.InternalServerError | openai.RateLimitError)


class StudentClient:
    """Chat completions from one engine. Use as an async context manager; closing it ends all calls in the engine."""

    def __init__(self, url: str, token: str, timeout_s: float, patience_s: float):
        self.url = url
        self.patience_s = patience_s
        self._sdk = openai.AsyncOpenAI(
            base_url=f"{url.rstrip('/')}/v1",
            api_key=token or KEYLESS,
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=CONNECT_S),
            http_client=openai.DefaultAsyncHttpxClient(verify=tls()),
        )

    async def __aenter__(self) -> "StudentClient":
        return self

    async def __aexit__(self, *_) -> None:
        await self._sdk.close()

    async def complete(self, model: str, messages: list[dict[str, str]], sampling: Sampling, seed: int) -> Completion:
        """One answer. Raises TransientError when the engine is away, FatalError when it refuses the request."""
        try:
            answer = await self._within_context(model, messages, sampling, seed)
        except openai.APIError as error:
            if isinstance(error, openai.BadRequestError) and "context length" in error.message:
                return Completion("", TOO_LONG)
            raise self._as_ours(error, model) from error
        choice, usage = answer.choices[0], answer.usage
        return Completion(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason,
            tokens=usage.completion_tokens if usage else 0,
            prompt_tokens=usage.prompt_tokens if usage else 0,
        )

    async def _within_context(
        self, model: str, messages: list[dict[str, str]], sampling: Sampling, seed: int
    ) -> ChatCompletion:
        """More tokens than the model's whole context are refused by vLLM; then the answer may have what is left of it."""
        try:
            return await self._ask(model, messages, sampling, seed, sampling.max_tokens)
        except openai.BadRequestError as error:
            if error.param != "max_tokens":
                raise
        return await self._ask(model, messages, sampling, seed, None)

    async def _ask(
        self, model: str, messages: list[dict[str, str]], sampling: Sampling, seed: int, max_tokens: int | None
    ) -> ChatCompletion:
        async for attempt in stamina.retry_context(
            on=_is_brief, attempts=None, timeout=self.patience_s, wait_initial=0.5, wait_max=5.0
        ):
            with attempt:
                return await self._sdk.chat.completions.create(
                    model=model,
                    messages=messages,  # pyright: ignore[reportArgumentType]
                    max_tokens=max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=seed,
                )
        raise AssertionError("stamina returns or raises")

    def _as_ours(self, error: openai.APIError, model: str) -> FatalError | TransientError:
        match error:
            case openai.NotFoundError():
                return FatalError(
                    f"the engine at {self.url} does not know {model!r}. If this is an adapter's content hash: its copy is "
                    "missing from the engine's adapters folder, or it names another base than the engine was started with",
                    code="adapter_missing",
                )
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return FatalError(
                    f"the engine at {self.url} refused our token; both sides need the same METEOR_INTERNAL_TOKEN",
                    code="engine_auth",
                )
            case openai.APIStatusError() if error.status_code < 500 and not isinstance(error, openai.RateLimitError):
                return FatalError(f"the engine refused the request: {error.message}", code="engine_refused")
        return TransientError(
            f"the engine at {self.url} does not answer: {type(error).__name__}: {error.message}",
            code="engine_unavailable",
        )
