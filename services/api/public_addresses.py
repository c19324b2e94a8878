"""Where webhooks may lead: to public addresses, and to those that the operator allows. Pure functions."""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What Python's is_global takes for public: protocol assignments (a cloud's metadata among them), site-local addresses, and
# a cloud's own service of the machine that asks (Azure's wire server), which is public by its number.
NOT_PUBLIC_EITHER = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "fec0::/10", "168.63.129.16/32")))


def networks_of(text: str) -> tuple[Network, ...]:
    """ "10.1.0.0/16, fd00::/8" -> networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def literal(host: str) -> Address | None:
    """The address that a URL's host names without a look-up; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def may_connect(address: Address, allowed: Iterable[Network]) -> bool:
    """An IPv6 address that carries an IPv4 address counts as both: somewhere on the way it becomes that one."""
    return all(_is_public(one) or any(one in network for network in allowed) for one in (address, *_carried(address)))


def _is_public(address: Address) -> bool:
    """is_global alone lets multicast pass. A mapped address is judged by what it carries."""
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in NAT64):
        return True
    bad = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not bad and not any(address in network for network in NOT_PUBLIC_EITHER)


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if 0xFFFF < int(address) <= 0xFFFFFFFF:  # ::a.b.c.d, an old form
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]
