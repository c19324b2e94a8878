"""HTTP client of the strong-model gateway: the configured providers and their prices."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx

from services.api.settings import ApiSettings
from shared.contracts.errors import TransientError
from shared.contracts.estimate import Price
from shared.contracts.json_types import Json
from shared.contracts.providers import ProviderObject, ProviderReport
from shared.platform.http_client import internal_sync_client

GATEWAY_S = 3.0
TEST_S = 600.0  # a reasoning model may take a minute for each of the calls


class GatewayUnavailable(TransientError):
    """The gateway does not say which providers there are. Sent as 503 with retry-after."""

    code = "gateway_unavailable"


class ProviderList:
    """The strong models that jobs may name, as the gateway has them. It is asked anew each time."""

    def __init__(self, settings: ApiSettings, token: str):
        self._client = internal_sync_client(settings.gateway_url, token, timeout_s=GATEWAY_S)

    def close(self) -> None:
        self._client.close()

    def prices(self) -> dict[str, Price]:
        """Provider -> its price, in the gateway's order. Raises GatewayUnavailable."""
        names = ("price_input", "price_output", "batch_price")
        with _answering():
            return {row["id"]: Price(*(row[name] for name in names)) for row in self._ask("GET", "/v1/models")["data"]}

    def objects(self) -> list[ProviderObject]:
        """All providers, with what was learned of each. Raises GatewayUnavailable."""
        prices = self.prices()
        with _answering():
            rows = self._ask("GET", "/internal/providers")["providers"]
            return [
                ProviderObject(
                    id=row["name"],
                    price_input=prices[row["name"]].input,
                    price_output=prices[row["name"]].output,
                    **row,
                )
                for row in rows
            ]

    def test(self, name: str) -> ProviderReport:
        """Raises GatewayUnavailable."""
        with _answering():
            return ProviderReport.model_validate(self._ask("POST", f"/internal/providers/{quote(name)}/test", TEST_S))

    def forget(self, name: str) -> None:
        """Raises GatewayUnavailable."""
        with _answering():
            self._ask("DELETE", f"/internal/providers/{quote(name)}/learned")

    def _ask(self, method: str, path: str, timeout_s: float = GATEWAY_S) -> Json:
        answer = self._client.request(method, path, timeout=timeout_s)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise GatewayUnavailable(
            f"the strong-model gateway does not say which providers there are: {error!r}"
        ) from error
