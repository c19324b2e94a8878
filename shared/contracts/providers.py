"""What the gateway says of a provider: how requests are changed for it, and the room that its reasoning needs."""

from pydantic import BaseModel


class Change(BaseModel):
    """One change to requests. field: of the request. how: what becomes of it, such as "left out". why: the provider's words.

    at: when it was learned, Unix seconds. times: how many requests this gateway has changed so since it started.
    """

    field: str
    how: str
    why: str = ""
    at: float = 0.0
    times: int = 0


class ProviderStatus(BaseModel):
    """room: tokens added to a request's limit, because its reasoning counts inside the limit."""

    name: str
    model: str
    address: str
    room: int = 0
    changed: list[Change] = []


class ProvidersStatus(BaseModel):
    providers: list[ProviderStatus]
