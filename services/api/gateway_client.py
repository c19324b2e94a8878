"""HTTP client of the strong-model gateway: the configured providers and their prices."""

import httpx

from services.api.settings import ApiSettings
from shared.contracts.errors import TransientError
from shared.contracts.estimate import Price
from shared.platform.http_client import internal_sync_client

GATEWAY_S = 3.0


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
        try:
            answer = self._client.get("/v1/models")
            answer.raise_for_status()
            names = ("price_input", "price_output", "batch_price")
            return {row["id"]: Price(*(row[name] for name in names)) for row in answer.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise GatewayUnavailable(
                f"the strong-model gateway does not say which providers there are: {error!r}"
            ) from error
