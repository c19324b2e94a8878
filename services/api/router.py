"""The router of a feature. `add_to` takes its routes as they are."""

from typing import Any

from fastapi import APIRouter, FastAPI

from services.api.openapi_document import operation_id


class Router(APIRouter):
    """Names operations as the document does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(generate_unique_id_function=operation_id, **options)


def add_to(app: FastAPI, router: Router) -> None:
    """app.include_router would make each route anew, all its models included: a tenth of the API's start."""
    app.router.routes += router.routes
