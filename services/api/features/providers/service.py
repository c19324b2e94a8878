"""Providers as the gateway knows them."""

from services.api.context import ProjectContext
from services.api.paging import listed
from shared.contracts.error_location import unknown_name
from shared.contracts.providers import ProviderObject, ProviderReport
from shared.contracts.views import Listed


def page(context: ProjectContext) -> Listed[ProviderObject]:
    """Raises GatewayUnavailable."""
    return listed(context.providers.objects(), False)


def test(context: ProjectContext, name: str) -> ProviderReport:
    """Raises NotFound with the nearest name, GatewayUnavailable."""
    _known(context, name)
    return context.providers.test(name)


def forget(context: ProjectContext, name: str) -> ProviderObject:
    """Raises NotFound with the nearest name, GatewayUnavailable."""
    _known(context, name)
    context.providers.forget(name)
    return next(provider for provider in context.providers.objects() if provider.name == name)


def _known(context: ProjectContext, name: str) -> None:
    names = list(context.providers.prices())
    if name not in names:
        raise unknown_name("provider", name, names, code="provider_not_found")
