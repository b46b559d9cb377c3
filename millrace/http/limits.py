"""What one process takes in over HTTP: sizes, times, numbers. docs/http.md has the table."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from millrace.http.hosts import LOOPBACK
from millrace.http.requester import Network


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """The defaults are those of the settings (millrace/process/http_settings.py)."""

    head_bytes: int = 32 * 1024
    """Of request line, headers and trailers together."""
    head_fields: int = 64
    """Headers and trailers."""
    head_timeout: float = 10.0
    """Seconds from a head's first byte, of the first head from the beginning of the connection."""
    body_bytes: int = 256 * 1024
    body_timeout: float = 30.0
    """Seconds from the end of the head."""
    read_timeout: float = 30.0
    """Seconds that a client has to read what is buffered for it."""
    connections: int = 4_000
    waits: int = 2_000
    """Requests that wait for a read model."""
    waits_per_actor: int = 4
    rate: float = 200.0
    """Requests per second of one actor, else of one address, once `burst` of them were sent at once."""
    burst: int = 2_000
    allowed_hosts: Collection[str] = LOOPBACK
    trusted_proxies: Sequence[Network] = ()
