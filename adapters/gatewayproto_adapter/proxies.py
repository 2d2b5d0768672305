"""Who a client behind a proxy is: which `X-Forwarded-For` is believed. No I/O here."""

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from gatewayproto_wsproto.handshake import HeaderPairs, items

UNIX: Final = "unix"
"""The peer at the other end of a Unix socket, which has no address."""

MAX_HOPS: Final = 32
"""Members of the header, from the right, that are looked at: no real way has as many proxies."""

_HEADER: Final = "x-forwarded-for"
_MAX_MEMBER: Final = 64
_WITH_PORT: Final = re.compile(r"\[([^\]]*:[^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_MAPPED_BITS: Final = 96  # of an IPv6 address in front of the IPv4 address that is mapped into it

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


class TrustedProxies:
    """The proxies whose word on where a request came from is taken.

    Anybody can write a header, so it counts as far as it was written by one of these: each of them
    appended whom it was talking to. `trusted` are IP addresses, networks in CIDR form, and `unix`
    for whoever may connect to a Unix socket.

    Raises:
        ValueError: One of them is none of these; a network with bits set behind its prefix is
            none.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        names = frozenset(trusted)
        self._unix = UNIX in names
        self._networks = tuple(_network(name) for name in sorted(names - {UNIX}))

    def client(self, peer: str, headers: HeaderPairs) -> str:
        """Whom a request came from, as far as that can be believed.

        `peer` is the transport's: `address:port`, `[address]:port`, `unix`, or empty where it is
        not known. It is the answer unless it is trusted. If it is, `X-Forwarded-For` is read from
        its right end (of several such headers, the last is the rightmost) to the first address
        that is not trusted itself, which is the answer, normalized and without a port. What is no
        address ends the search, and so do more than `MAX_HOPS` members: the answer is then the
        address last read, or `peer`. The header's own text is never part of it.
        """
        if not self._trusts(peer):
            return peer
        client = peer
        for member in reversed(items(headers, _HEADER)[-MAX_HOPS:]):
            if self._unix and member.removesuffix(":") == UNIX:
                continue  # a proxy that another one reaches through a socket
            address = _forwarded(member)
            if address is None:
                return client
            client = str(address)
            if not self._covers(address):
                return client
        return client

    def _trusts(self, peer: str) -> bool:
        if peer == UNIX:
            return self._unix
        address = _address(peer)
        return address is not None and self._covers(address)

    def _covers(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def network_address(client: str) -> str:
    """The address in what `client` gave, normalized and without a port; empty where it has none."""
    address = _address(client)
    return "" if address is None else str(address)


def _forwarded(member: str) -> _Address | None:
    """The address that a member of the header is; a zone belongs to another machine."""
    if len(member) > _MAX_MEMBER or "%" in member:
        return None
    return _address(member)


def _address(text: str) -> _Address | None:
    """An address with or without a port."""
    with_port = _WITH_PORT.fullmatch(text)
    return _parsed((with_port[1] or with_port[2]) if with_port else text)


def _parsed(host: str) -> _Address | None:
    """An address; one that is mapped into IPv6 is the IPv4 address."""
    try:
        # A peer on a local link has a zone, which is no part of the address.
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network(name: str) -> _Network:
    try:
        network = ip_network(name)
    except ValueError as error:
        raise ValueError(f"no address, network or {UNIX!r}: {error}") from None
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= _MAPPED_BITS:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
