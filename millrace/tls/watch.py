"""A certificate that is about to expire is shown: in the log once a day, and as a metric."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from millrace.runtime.worker import Health, Role
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics
from millrace.tls.identity import Identity

log = get_logger(__name__)

SOON: Final = timedelta(days=7)
_REPEAT: Final = timedelta(days=1)


class CertificateWatch:
    """A worker that looks at this process' certificate. `interval`: seconds between two looks; `clock` gives
    the time."""

    name = "certificate"
    role: Role | None = None

    def __init__(
        self,
        identity: Identity,
        metrics: Metrics,
        *,
        interval: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._identity = identity
        self._interval = interval
        self._clock = clock
        self._logged: datetime | None = None
        self._stopping = asyncio.Event()
        metrics.watch(
            "gauge",
            "millrace_certificate_expires_timestamp_seconds",
            "When the certificate of this process expires, as a Unix time",
            lambda: identity.current().expires.timestamp(),
        )

    async def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.is_set():
            self.look()
            try:
                async with asyncio.timeout(self._interval):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """At once."""
        self._stopping.set()

    def health(self) -> Health:
        """Ready; the detail says when a certificate is about to expire. Others decide whether they accept
        it."""
        left = self._left()
        return Health(detail=_words(left) if left <= SOON else "")

    def look(self) -> None:
        """Logs an expiry that is near, at most once a day."""
        left, now = self._left(), self._clock()
        if left > SOON:
            self._logged = None
        elif self._logged is None or now - self._logged >= _REPEAT:
            self._logged = now
            level = log.warning if left > timedelta() else log.error
            level(_words(left), expires=self._identity.current().expires.isoformat())

    def _left(self) -> timedelta:
        return self._identity.current().expires - self._clock()


def _words(left: timedelta) -> str:
    if left <= timedelta():
        return "the certificate has expired: no other service accepts it"
    return f"the certificate expires within {left.days + 1} days"
