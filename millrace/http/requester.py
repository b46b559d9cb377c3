"""Whose request it is where requests are counted: the actor's, else the address'.

Nothing is decided here about what anybody may do; actor.py does that.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import Scope

from millrace.http.actor import claimed_actor

Network = IPv4Network | IPv6Network

_SCOPE_KEY: Final = "requester"
_ONE_CLIENT: Final = 64  # bits of an IPv6 address: who has one has all that begin with them
_NOBODY: Final = "unknown address"


def requester_of(scope: Scope) -> str:
    """As Requesters noted it in the request's scope."""
    return str(scope.get(_SCOPE_KEY, _NOBODY))


class Requesters:
    """Notes in each request's scope whose it is."""

    def __init__(self, trusted_proxies: Sequence[Network] = ()) -> None:
        """`trusted_proxies`: whose X-Forwarded-For is believed."""
        self._trusted = trusted_proxies

    def note(self, scope: Scope) -> str:
        """The requester, which requester_of(scope) is from now on."""
        requester = scope[_SCOPE_KEY] = claimed_actor(scope) or self._address(scope)
        return requester

    def _address(self, scope: Scope) -> str:
        client = scope.get("client")
        if not client:
            return _NOBODY
        address = str(client[0])
        if self._trusted and _within(address, tuple(self._trusted)):
            address = self._forwarded(scope, address)
        return _group(address)

    def _forwarded(self, scope: Scope, proxy: str) -> str:
        """The last address in X-Forwarded-For that is no trusted proxy's: what stands before it, anybody can
        have written."""
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        known = proxy
        for entry in reversed(b",".join(lines).decode("latin-1").split(",")):
            address = entry.strip()
            if _parsed(address) is None:
                return known
            known = address
            if not _within(address, tuple(self._trusted)):
                return known
        return known


@lru_cache(maxsize=4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


@lru_cache(maxsize=4096)
def _group(address: str) -> str:
    """The address, of IPv6 the network that belongs to one client."""
    parsed = _parsed(address)
    if not isinstance(parsed, IPv6Address):
        return str(parsed or address)
    network = int(parsed) >> (128 - _ONE_CLIENT) << (128 - _ONE_CLIENT)
    return f"{IPv6Address(network)}/{_ONE_CLIENT}"
