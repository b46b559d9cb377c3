"""Delivering what is due, a few at a time, and recording what came of it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from structlog.contextvars import bound_contextvars

from millrace import Metrics, get_logger
from millrace.telemetry.tracing import Span, start, well_formed
from notification_service.breaker import Breaker
from notification_service.delivery import Deferred, Delivery, DeliveryOutcome, Hopeless, Outage, Sent, Unknown
from notification_service.domain import (
    MESSAGE_REFUSED,
    NotificationCommand,
    RecordDelay,
    RecordFailure,
    RecordSent,
)
from notification_service.mailer import Mailer
from notification_service.metrics import EmailMetrics
from notification_service.outbox import Pending, utc_now
from notification_service.recorder import Recorder

log = get_logger(__name__)

Confirm = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many mails at once, and the pauses (seconds) of a mail that is deferred: doubling, with jitter.
    `last_answer`: how many seconds after a stop the mail server has for answers that are still missing."""

    concurrency: int = 4
    recipient_initial: float = 60.0
    recipient_maximum: float = 3600.0
    last_answer: float = 5.0


class Dispatcher:
    """Delivers notifications and appends their outcomes.

    `stopping` makes it begin nothing new; `beat` is called with each attempt, as a sign of life.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        delivery: Delivery,
        mailer: Callable[[], Mailer],
        breaker: Breaker,
        stopping: asyncio.Event,
        beat: Callable[[], None],
        pace: Pace | None = None,
        now: Callable[[], datetime] = utc_now,
        random: Random | None = None,
        metrics: EmailMetrics | None = None,
    ) -> None:
        self._recorder = recorder
        self._delivery = delivery
        self._mailer = mailer
        self._breaker = breaker
        self._stopping = stopping
        self._beat = beat
        self._pace = pace or Pace()
        self._now = now
        self._random = random or Random()
        self._metrics = metrics or EmailMetrics(Metrics())
        self._sessions: set[Mailer] = set()

    async def dispatch(self, pending: Sequence[Pending], confirm: Confirm) -> None:
        """Attempt each once; the mails of one order one after the other, in the order of their requests.

        Stops beginning new ones when an outage is met or `stopping` is set. `confirm` is awaited before each
        attempt and raises when this process may send no more. What it or the database raises comes out, after
        the attempts that were under way have been finished and recorded.
        """
        halt = _Halt(self._breaker, self._stopping)
        orders = deque(_by_order(pending))
        workers = min(self._pace.concurrency, len(orders))
        # Not a task group: that would cancel the others in mid-delivery when one fails, and a mail that was
        # accepted but not recorded goes out twice.
        tasks = [asyncio.create_task(self._work(orders, confirm, halt)) for _ in range(workers)]
        hanging_up = asyncio.create_task(self._hang_up_when_stopped())
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            hanging_up.cancel()
        for task in tasks:
            task.result()

    async def _hang_up_when_stopped(self) -> None:
        """A mail whose answer is still missing when the process has to end is recorded as what it is:
        unknown. Otherwise each restart would send one more copy, and count none."""
        await self._stopping.wait()
        await asyncio.sleep(self._pace.last_answer)
        for mailer in self._sessions:
            mailer.give_up()

    async def _work(self, orders: deque[list[Pending]], confirm: Confirm, halt: "_Halt") -> None:
        try:
            async with self._session() as mailer:
                while orders and not halt.called():
                    for pending in orders.popleft():
                        if halt.called():
                            return
                        self._beat()
                        await confirm()
                        await self._deliver(pending, mailer)
        except BaseException:
            halt.failed = True
            raise

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Mailer]:
        async with self._mailer() as mailer:
            self._sessions.add(mailer)
            try:
                yield mailer
            finally:
                self._sessions.discard(mailer)

    async def _deliver(self, pending: Pending, mailer: Mailer) -> None:
        correlation_id, stream_id = pending.last.metadata.correlation_id, pending.last.stream_id
        notification_id = str(pending.request.notification_id)
        with (
            bound_contextvars(
                correlation_id=correlation_id, stream_id=stream_id, notification_id=notification_id
            ),
            _span(pending) as span,
        ):
            began = time.perf_counter()
            outcome = await self._delivery.attempt(pending.request, mailer)
            self._metrics.attempted(outcome, time.perf_counter() - began)
            # A crash between the server's acceptance and this append (or a database that stays away until the
            # process ends, or another sender that took over meanwhile) makes the mail go out again: SMTP
            # takes part in no transaction, and the other order would lose mails instead. The second copy has
            # the same Message-ID, which is derived from the notification, so that servers, mailboxes and
            # `audit` can recognise it.
            await self._recorder.record(pending, self._judge(outcome, pending))
            if not isinstance(outcome, Sent):
                span.fail(outcome.reason)
            log.info("delivery attempted", outcome=type(outcome).__name__.lower(), **_told(outcome))

    def _judge(self, outcome: DeliveryOutcome, pending: Pending) -> NotificationCommand:
        """What to record, and what it says about everybody else's mail."""
        notification, customer = pending.notification, pending.request.customer_id
        tried = notification.refusals + notification.unknown
        match outcome:
            case Sent(message_id):
                self._breaker.close()
                return RecordSent(message_id)
            case Hopeless(reason):
                if reason == MESSAGE_REFUSED:  # all others never reached the mail server: they prove nothing
                    self._breaker.close()
                return RecordFailure(reason)
            case Deferred(reason):
                self._breaker.deferred(customer, first=tried == 0)
                return RecordDelay(reason, self._after(self._own_pause(tried)))
            case Unknown(reason):
                self._breaker.doubt(customer, first=tried == 0)
                return RecordDelay(reason, self._after(self._own_pause(tried)))
            case Outage(reason):
                return RecordDelay(reason, self._after(self._breaker.trip(reason)))

    def _after(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _own_pause(self, tried: int) -> float:
        pause = min(self._pace.recipient_maximum, self._pace.recipient_initial * 2.0**tried)
        return pause * (1 - 0.5 * self._random.random())


class _Halt:
    """Why nothing new is begun in this round: an outage was met in it, a worker failed, or the process
    stops."""

    def __init__(self, breaker: Breaker, stopping: asyncio.Event) -> None:
        self._breaker = breaker
        self._trips = breaker.trips
        self._stopping = stopping
        self.failed = False

    def called(self) -> bool:
        return self.failed or self._stopping.is_set() or self._breaker.trips != self._trips


def _by_order(pending: Sequence[Pending]) -> Iterable[list[Pending]]:
    orders: dict[UUID, list[Pending]] = {}
    for one in pending:
        orders.setdefault(one.request.order_id, []).append(one)
    return (sorted(mails, key=lambda mail: mail.position) for mails in orders.values())


def _span(pending: Pending) -> Span:
    """Of one attempt, in the trace of what happened to the notification last."""
    attributes = {
        "millrace.stream_id": pending.last.stream_id,
        "millrace.notification_kind": pending.request.kind,
    }
    parent = well_formed(pending.last.metadata.traceparent)
    return start("deliver notification", parent=parent, attributes=attributes)


def _told(outcome: DeliveryOutcome) -> dict[str, str]:
    told = {} if isinstance(outcome, Sent) else {"reason": outcome.reason}
    if isinstance(outcome, Outage | Deferred | Unknown):
        told["detail"] = outcome.detail
    return told
