"""Which addresses are public: where a stranger's URL may lead a worker, which stands inside somebody's network.

`ipaddress.is_global` alone is too kind: multicast, site-local addresses and whatever wraps a private IPv4 address in
an IPv6 one pass it, and what it knows differs between versions of Python. So the ranges stand here.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

IPAddress = IPv4Address | IPv6Address
Resolve = Callable[..., Any]
"""`socket.getaddrinfo`, or what answers like it."""

_CLOSED_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host: Linux connects 0.0.0.0 to loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and one cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public number, and inside of Azure its host
        "169.254.0.0/16",  # link-local: 169.254.169.254 hands out the machine's credentials
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, as 198.51.100 and 203.0.113
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_UNICAST: Final = IPv6Network("2000::/3")
"""All that is given to anybody. Loopback, compatible, unique local, link- and site-local, multicast lie outside."""
_CLOSED_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols: Teredo wraps an IPv4 address, ORCHID none
        "2001:db8::/32",  # documentation, as 3fff
        "2002::/16",  # 6to4 wraps an IPv4 address
        "3fff::/20",
    )
)
_WRAPPED: Final = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("64:ff9b::/96"),  # NAT64: on a host without IPv4 it is the way to all that have nothing else
)


def is_public(address: IPAddress) -> bool:
    """Whether anybody on the Internet could be there. An IPv4 address inside an IPv6 one is judged as itself."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if any(address in network for network in _WRAPPED):
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _UNICAST and address.is_global and not any(address in network for network in _CLOSED_V6)
    return address.is_global and not any(address in network for network in _CLOSED_V4)


def literal(host: str) -> IPAddress | None:
    """The address that `host` is, in the one form that every reader reads alike; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def looks_numeric(host: str) -> bool:
    """Whether some reader would take the host for an IPv4 address: 2130706433, 0x7f.1, 0177.0.0.1, 127.1."""
    last = host.rpartition(".")[2].lower()
    return last.isdigit() or (last.startswith("0x") and all(char in "0123456789abcdef" for char in last[2:]))


def addresses(host: str, port: int, resolve: Resolve) -> list[IPAddress]:
    """Every address of the host, asked for once. Raises socket.gaierror, UnicodeError, or ValueError for nonsense."""
    known = literal(host)
    if known is not None:
        return [known]
    answers = resolve(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))
