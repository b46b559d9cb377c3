"""The settings of the HTTP door: where it listens, and its limits (docs/http.md#limits)."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from millrace.http.hosts import LOOPBACK, canonical_host
from millrace.http.limits import HttpLimits
from millrace.http.requester import Network

DEFAULTS = HttpLimits()


def split(value: object) -> object:
    """The parts of a list that is written with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _hosts(values: frozenset[str]) -> frozenset[str]:
    return frozenset(_host(value) for value in values)


def _host(value: str) -> str:
    bracketed = f"[{value}]" if value.count(":") > 1 and not value.startswith("[") else value
    host = canonical_host(bracketed)
    if host is None or (bracketed.rpartition("]")[2] if "]" in bracketed else bracketed).count(":"):
        raise ValueError("expected names and addresses without ports, such as shop.example.com,127.0.0.1")
    return host


def _networks(value: object) -> object:
    parts = split(value)
    if not isinstance(parts, list):
        return parts
    try:
        return tuple(ip_network(part) for part in parts)
    except ValueError:
        raise ValueError("expected addresses and networks, such as 10.0.0.7,10.1.0.0/16") from None


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Hosts = Annotated[
    frozenset[str], NoDecode, BeforeValidator(split), Field(min_length=1), AfterValidator(_hosts)
]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]


class HttpSettings(BaseSettings):
    """A part of ServiceSettings."""

    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    internal_host: str = "127.0.0.1"
    internal_port: Port = 7000
    """Health with its details, metrics, /docs: not for clients."""
    allowed_hosts: Hosts = LOOPBACK
    """Names and addresses in `Host` for which the service answers."""
    trusted_proxies: Networks = ()
    """Addresses and networks whose X-Forwarded-For is believed."""
    http_head_bytes: Annotated[int, Field(ge=1024, le=2**20)] = DEFAULTS.head_bytes
    http_head_fields: Annotated[int, Field(ge=8, le=1000)] = DEFAULTS.head_fields
    http_head_timeout: Seconds = DEFAULTS.head_timeout
    http_body_bytes: Annotated[int, Field(ge=1024, le=2**26)] = DEFAULTS.body_bytes
    http_body_timeout: Seconds = DEFAULTS.body_timeout
    http_read_timeout: Seconds = DEFAULTS.read_timeout
    http_connections: Annotated[int, Field(ge=10, le=100_000)] = DEFAULTS.connections
    http_waits: Annotated[int, Field(ge=1, le=100_000)] = DEFAULTS.waits
    http_waits_per_actor: Annotated[int, Field(ge=1, le=100_000)] = DEFAULTS.waits_per_actor
    http_rate: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = DEFAULTS.rate
    """Requests per second of one actor, else of one address."""
    http_burst: Annotated[int, Field(ge=1, le=1_000_000)] = DEFAULTS.burst
    """Requests that one of them may send at once."""

    @property
    def http_limits(self) -> HttpLimits:
        """What the HTTP door takes in."""
        return HttpLimits(
            head_bytes=self.http_head_bytes,
            head_fields=self.http_head_fields,
            head_timeout=self.http_head_timeout,
            body_bytes=self.http_body_bytes,
            body_timeout=self.http_body_timeout,
            read_timeout=self.http_read_timeout,
            connections=self.http_connections,
            waits=self.http_waits,
            waits_per_actor=self.http_waits_per_actor,
            rate=self.http_rate,
            burst=self.http_burst,
            allowed_hosts=self.allowed_hosts,
            trusted_proxies=self.trusted_proxies,
        )
