"""What is measured of e-mails: attempts, by what came of them, and whether any go out at all."""

from typing import Final

from millrace import Metrics
from millrace.telemetry.metrics import SECONDS
from notification_service.breaker import Breaker
from notification_service.delivery import Deferred, DeliveryOutcome, Hopeless, Outage, Sent, Unknown

SENT: Final = "sent"
DELAYED: Final = "delayed"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"

_SECONDS: Final = (*SECONDS, 30.0, 60.0)
_WORDS: Final[dict[type[DeliveryOutcome], str]] = {
    Sent: SENT,
    Outage: DELAYED,
    Deferred: DELAYED,
    Unknown: UNKNOWN,
    Hopeless: FAILED,
}


class EmailMetrics:
    """Of the sender in this process. No label comes from a message: reasons are those of domain.py."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds = {
            outcome: metrics.histogram(
                "millrace_email_attempt_duration_seconds",
                "An attempt: the address from the user service, and the mail server's answer",
                _SECONDS,
                outcome=outcome,
            )
            for outcome in (SENT, DELAYED, UNKNOWN, FAILED)
        }

    def attempted(self, outcome: DeliveryOutcome, seconds: float) -> None:
        """An attempt came to this end."""
        word = _WORDS[type(outcome)]
        self._seconds[word].observe(seconds)
        self._metrics.counter(
            "millrace_email_attempts_total",
            "Attempts to deliver an e-mail, by what came of them; the reason is empty for those sent",
            outcome=word,
            reason="" if isinstance(outcome, Sent) else outcome.reason,
        ).inc()

    def watch_breaker(self, breaker: Breaker) -> None:
        """From here on tell whether it is open."""
        self._metrics.watch(
            "gauge",
            "millrace_email_breaker_open",
            "1 while nobody can be written to: the servers are probed, and one e-mail at a time is tried",
            lambda: float(breaker.open),
        )
        self._metrics.watch(
            "counter",
            "millrace_email_breaker_trips_total",
            "Attempts that met an outage of the mail server or the user service",
            lambda: breaker.trips,
        )
