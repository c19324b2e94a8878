"""The prices of strong models, by provider and by model, as the gateway says them."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.api.gateway_client import ProviderList
from services.api.settings import ApiSettings
from shared.contracts.estimate import Price
from tests.fakes.on_a_thread import on_a_thread

MODELS = [("default", "large", 1.0), ("cheap", "large", 0.5), ("judge", "cheap", 2.0)]


def test_the_gateway_is_asked_once_for_providers_and_models():
    asked: list[str] = []

    async def models(request: Request) -> Response:
        asked.append(request.url.path)
        prices = [
            {"id": name, "root": model, "price_input": price, "price_output": price, "batch_price": 0.5}
            for name, model, price in MODELS
        ]
        return JSONResponse({"data": prices})

    with on_a_thread(Starlette(routes=[Route("/v1/models", models)])) as url:
        providers = ProviderList(ApiSettings(gateway_url=url), "")
        try:
            told = providers.all_prices()
        finally:
            providers.close()
    price = {name: Price(amount, amount, 0.5) for name, _, amount in MODELS}
    assert told == price | {"large": price["default"]}  # a model's first provider; a provider's own name goes first
    assert asked == ["/v1/models"]
