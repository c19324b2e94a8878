"""Which addresses webhooks may reach: public ones, and those that the operator allows. Pure functions."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Public for Python's is_global, but refused here: protocol assignments (with the metadata service of a cloud), site-local
# addresses, and Azure's wire server.
NOT_PUBLIC_EITHER = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "fec0::/10", "168.63.129.16/32")))


def networks_of(text: str) -> tuple[Network, ...]:
    """ "10.1.0.0/16, fd00::/8" -> networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def unreadable(url: str) -> str | None:
    """Why no connection can be made to a URL's host and port, whatever its name leads to; None where one can."""
    try:
        url.encode("ascii")
        parts = urlsplit(url)
        return None if parts.hostname and parts.port != 0 else "it has no host, or port 0"
    except ValueError as error:  # letters that are not ASCII, a port above 65535, brackets that hold no address
        return str(error)


def literal(host: str) -> Address | None:
    """The address of a URL's host that is a literal address; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def may_connect(address: Address, allowed: Iterable[Network]) -> bool:
    """An IPv6 address that carries an IPv4 address is checked as both, since a gateway may translate it."""
    return all(_is_public(ip) or any(ip in network for network in allowed) for ip in (address, *_carried(address)))


def _is_public(address: Address) -> bool:
    """is_global alone accepts multicast. A mapped address is checked by the address that it carries."""
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in NAT64):
        return True
    bad = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not bad and not any(address in network for network in NOT_PUBLIC_EITHER)


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if 0xFFFF < int(address) <= 0xFFFFFFFF:  # ::a.b.c.d, an old form
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in carried if inner is not None]
