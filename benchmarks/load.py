"""A small HTTP/1.1 load generator: N keep-alive connections, one request in flight on each.

It parses only what it needs (status and Content-Length), so that the client's own work stays small beside the
server's on a machine with two cores.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """What came of a run: seconds it took, seconds each request took, and how often each status came."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which `share` (0..1) of the requests were answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one POST request."""
    target = urlsplit(url)
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run_load(url: str, request: Callable[[int], bytes], *, connections: int, requests: int) -> Load:
    """Send `requests` requests (`request(n)` gives the n-th) over `connections` connections as fast as
    answered.

    Raises ConnectionError when the server closes a connection in between.
    """
    target = urlsplit(url)
    numbers = iter(range(requests))
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            for number in numbers:
                started = time.perf_counter()
                writer.write(request(number))
                status = await _read_response(reader)
                latencies.append(time.perf_counter() - started)
                statuses[status] = statuses.get(status, 0) + 1
        finally:
            writer.close()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(connection())
    return Load(time.perf_counter() - started, latencies, statuses)


async def _read_response(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12])
