"""HTTP client of the strong-model gateway: the configured providers, their prices, and cheap calls that check them."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from services.api.settings import ApiSettings
from shared.contracts.errors import TransientError
from shared.contracts.estimate import Price
from shared.contracts.json_types import Json
from shared.contracts.providers import ProviderObject, ProviderReport
from shared.platform.call_headers import origin_headers
from shared.platform.http_client import internal_sync_client

GATEWAY_S = 3.0
TEST_S = 600.0  # a reasoning model may take a minute for each of the calls
PHASE = "check"  # of these calls on the ledger
KEPT_S = 300.0  # an answer says for so long that the provider answers


class GatewayUnavailable(TransientError):
    """The gateway does not say which providers there are. Sent as 503 with retry-after."""

    code = "gateway_unavailable"


class NoAnswer(Exception):
    """A provider gave no answer. code: the gateway's; None: it took longer than was waited, or the gateway is away."""

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        self.message, self.code = message, code


class Answered(NamedTuple):
    """seconds: that the call took; kept: by an earlier check, so that nothing was paid now."""

    text: str
    cut_off: bool
    seconds: float
    kept: bool = False


class ProviderList:
    """The strong models that jobs may name, as the gateway has them. It is asked anew each time."""

    def __init__(self, settings: ApiSettings, token: str):
        self._client = internal_sync_client(settings.gateway_url, token, timeout_s=GATEWAY_S)
        self._kept: dict[tuple[Any, ...], tuple[float, Answered]] = {}

    def close(self) -> None:
        self._client.close()

    def prices(self) -> dict[str, Price]:
        """Provider -> its price, in the gateway's order. Raises GatewayUnavailable."""
        with _saying():
            return _prices(self._json("GET", "/v1/models")["data"])

    def all_prices(self) -> dict[str, Price]:
        """`prices`, and those of models that are no provider's name by the model's: a request may name either. Raises
        GatewayUnavailable."""
        with _saying():
            rows = self._json("GET", "/v1/models")["data"]
            prices, models = _prices(rows), [(row["root"], row["id"]) for row in rows]
        of_models = {model: prices[name] for model, name in reversed(models) if name in prices and model not in prices}
        return prices | of_models

    def objects(self) -> list[ProviderObject]:
        """All providers, with what was learned of each. Raises GatewayUnavailable."""
        prices = self.prices()
        with _saying():
            rows = self._json("GET", "/internal/providers")["providers"]
            paid = {row["name"]: prices[row["name"]] for row in rows}
            return [
                ProviderObject(id=name, price_input=paid[name].input, price_output=paid[name].output, **row)
                for name, row in zip(paid, rows, strict=True)
            ]

    def contexts(self) -> dict[str, int]:
        """Tokens of prompt and answer that a provider takes, of those that have said so. Empty while the gateway is unavailable."""
        try:
            rows = self._json("GET", "/internal/providers")["providers"]
            return {row["name"]: row["context"] for row in rows if row.get("context")}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return {}

    def test(self, name: str) -> ProviderReport:
        """Raises GatewayUnavailable."""
        with _saying():
            return ProviderReport.model_validate(self._json("POST", f"/internal/providers/{quote(name)}/test", TEST_S))

    def forget(self, name: str) -> None:
        """Raises GatewayUnavailable."""
        with _saying():
            self._json("DELETE", f"/internal/providers/{quote(name)}/learned")

    def _json(self, method: str, path: str, timeout_s: float = GATEWAY_S) -> Json:
        answer = self._client.request(method, path, timeout=timeout_s)
        answer.raise_for_status()
        return answer.json()

    def ask(self, project: str, body: Json, timeout_s: float) -> Answered:
        """One call on the ledger of the project. body: a chat completion; model: a provider's name. Raises NoAnswer."""
        headers = origin_headers(project, "", "", PHASE)
        began = time.monotonic()
        try:
            answer = self._client.post("/v1/chat/completions", json=body, headers=headers, timeout=timeout_s)
            reply = answer.json()
            if answer.is_error:
                raise NoAnswer(str(reply["error"]["message"]), str(reply["error"]["code"]))
            choice = reply["choices"][0]
            text = choice["message"].get("content") or choice["message"].get("refusal") or ""
            cut_off = choice.get("finish_reason") == "length"
        except httpx.TimeoutException as error:
            raise NoAnswer(f"no answer within {timeout_s:.0f} s") from error
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise NoAnswer(f"the gateway gave no answer: {error!r}") from error
        return Answered(text, cut_off, time.monotonic() - began)

    def kept(self, key: tuple[Any, ...]) -> Answered | None:
        """What `keep` was given under this key a short time ago."""
        at, answered = self._kept.get(key, (0.0, None))
        return answered._replace(kept=True) if answered and time.monotonic() - at < KEPT_S else None

    def keep(self, key: tuple[Any, ...], answered: Answered) -> None:
        self._kept[key] = (time.monotonic(), answered)

    def unready(self) -> dict[str, NoAnswer]:
        """The providers that the gateway cannot reach just now, with its words. Empty where it does not say."""
        try:
            states = self._client.get("/readyz").json()["providers"]
            return {
                name: NoAnswer(str(state["message"]), str(state["code"]))
                for name, state in states.items()
                if not state["ready"]
            }
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            return {}


def _prices(rows: list[Json]) -> dict[str, Price]:
    """Of the gateway's models, in its order."""
    return {row["id"]: Price(row["price_input"], row["price_output"], row["batch_price"]) for row in rows}


@contextmanager
def _saying() -> Generator[None]:
    try:
        yield
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise GatewayUnavailable(
            f"the strong-model gateway does not say which providers there are: {error!r}"
        ) from error
