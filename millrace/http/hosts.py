"""For which hosts a service answers: a name that somebody else points here must not reach it from a
browser."""

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv6Address

from starlette.types import Scope

from millrace.http.problems import FieldError, Problem, bad_field

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+?)\.?)(?::[0-9]{0,5})?", re.IGNORECASE)


def canonical_host(authority: str) -> str | None:
    """The host of `name`, `name:port`, `[IPv6]` or `[IPv6]:port`, in lower case and without the final dot;
    None: it is none of them."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    address, name = match.groups()
    if address is None:
        return str(name).lower()
    try:
        return str(IPv6Address(address))
    except ValueError:
        return None


class AllowedHosts:
    """The hosts that a service answers for, on any port."""

    def __init__(self, hosts: Collection[str]) -> None:
        """`hosts` are canonical."""
        self._hosts = frozenset(hosts)
        # Few are asked for, and what else is sent is forgotten again.
        self._host = lru_cache(maxsize=64)(_decoded)

    def check(self, scope: Scope) -> None:
        """Raises Problem 400 without exactly one well-formed Host, 421 for another than these."""
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            raise _malformed("sent more than once" if named else "is missing")
        host = self._host(named[0])
        if host is None:
            raise _malformed("neither a name nor an address")
        if host not in self._hosts:
            message = "this service does not answer for this host"
            errors = [FieldError("Host", message, "ask for one of its allowed hosts")]
            raise Problem(421, "misdirected_request", f"Host: {message}", errors=errors)


def _decoded(authority: bytes) -> str | None:
    return canonical_host(authority.decode("latin-1"))


def _malformed(message: str) -> Problem:
    return bad_field(400, "malformed_host", "Host", message, "send one, such as localhost:8001")
